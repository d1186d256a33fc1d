//! `evaluate`: figures of a gallery on other photos.

use crate::helpers::{Folder, encoded, json, run, text};
use image::{ImageFormat, Rgb, RgbImage};

#[test]
fn an_evaluation_counts_the_known_and_the_unknown() {
    let folder = Folder::new();
    let gallery = folder.gallery();
    folder.photo("obama3.jpg", "probes/Barack Obama/3.jpg");
    let grass = RgbImage::from_pixel(300, 300, Rgb([20, 120, 30]));
    folder.write(
        "probes/Joe Biden/none.png",
        &encoded(grass, ImageFormat::Png),
    );
    folder.photo("astronaut.png", "strangers/1.png");
    let args = [
        "evaluate",
        "--json",
        "--database",
        &text(&gallery),
        "--probes",
        &text(&folder.path("probes")),
        "--unknown",
        &text(&folder.path("strangers")),
    ];
    let figures = json(&run(&args).succeeds());
    assert_eq!(figures["probes"], 2);
    assert_eq!(figures["detected"], 1);
    assert_eq!(figures["rank1"], 0.5);
    // The "stranger" is enrolled, with this very photo, so no probe is more similar.
    assert_eq!(figures["tpir_at_fpir"]["0.01"], 0.0);
    let by_mask = &figures["by_mask"];
    assert_eq!(by_mask["without_mask"]["detected"], 1);
    assert_eq!(by_mask["without_mask"]["rank1"], 1.0);
    assert_eq!(by_mask["with_mask"]["probes"], 0);
    assert_eq!(figures["confusions"].as_array().unwrap().len(), 0);
    let photos = figures["photos"].as_array().unwrap();
    assert_eq!(photos.len(), 3);
    assert_eq!(photos[0]["first"], photos[0]["person"]);
    assert!(photos[0]["similarity"].as_f64().unwrap() > 0.5);
    // A photo without a face, and a stranger: nobody's name stands for either person.
    assert!(photos[1]["first"].is_null() && photos[1]["similarity"].is_null());
    assert!(photos[2]["person"].is_null() && photos[2]["first"].is_string());
    let table = run(&args[..4]).fails(2, &["--probes"]);
    assert_eq!(table, "");
}
