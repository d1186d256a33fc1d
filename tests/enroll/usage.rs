//! Wrong usage of the command line.

use crate::helpers::run;

#[test]
fn wrong_usage_ends_with_status_2_and_names_the_argument() {
    run(&["--dataset", "d"]).fails(2, &["--output"]);
    run(&["identify"]).fails(2, &["<IMAGE|DIR>"]);
    run(&["check"]).fails(2, &["--dataset"]);
    run(&["check", "--dataset", "d", "--database", "g.npz"]).fails(2, &["--database"]);
    let wrong = |flag: &str, value: &str, says: &str| {
        run(&["identify", flag, value, "a.jpg"]).fails(2, &[flag, says]);
    };
    wrong("--min-face-size", "5", "expected 12 to 10000 pixels");
    wrong("--onet-threshold", "1.5", "expected a number from 0 to 1");
    wrong(
        "--scale-factor",
        "NaN",
        "expected a number from 0.1 to 0.95",
    );
    wrong(
        "--inference-region",
        "1,2,3",
        "has 3 numbers, expected four",
    );
    wrong("--device", "gpu", "expected cpu, cuda");
    wrong("--jobs", "9999", "a whole number from 0 to 1024");
    run(&["mask", "a.jpg", "--output", "o", "--masks", "black,scarf"]).fails(
        2,
        &[
            "--masks",
            "no mask is called \"scarf\"; expected one of surgical",
        ],
    );
}
