use super::*;

/// `classes` clusters of `per_class` unit vectors about random directions.
fn clusters(classes: usize, per_class: usize, dim: usize, noise: f32) -> (Array2<f32>, Vec<usize>) {
    let mut random = Xorshift(7);
    let mut uniform = move || (random.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    let centres = Array2::from_shape_simple_fn((classes, dim), &mut uniform);
    let mut x = Array2::zeros((classes * per_class, dim));
    let mut labels = Vec::new();
    for (i, mut row) in x.outer_iter_mut().enumerate() {
        let class = i % classes;
        labels.push(class);
        for (v, c) in row.iter_mut().zip(centres.row(class)) {
            *v = c + noise * uniform();
        }
        let length = row.dot(&row).sqrt();
        row /= length;
    }
    (x, labels)
}

fn argmax(values: ArrayView1<f32>) -> usize {
    (0..values.len())
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .unwrap()
}

#[test]
fn every_sample_of_well_separated_clusters_is_put_in_its_class() {
    let (x, labels) = clusters(8, 12, 32, 1.0);
    // Every third sample of a class is held out.
    let training: Vec<usize> = (0..x.nrows()).filter(|i| i / 8 % 3 != 0).collect();
    let train_labels: Vec<usize> = training.iter().map(|&i| labels[i]).collect();
    let svm = train(x.select(Axis(0), &training).view(), &train_labels, 8).unwrap();
    for (row, &label) in x.outer_iter().zip(&labels) {
        assert_eq!(argmax(svm.decide(row).unwrap().view()), label);
    }
}

#[test]
fn two_points_give_the_hyperplane_half_way_between_them() {
    // Without noise the solution for one sample per side is known: |w| = 2/|x₁ − x₂| where C allows,
    // here |x₁ − x₂|² = 2, alpha = 1 = C, so w = x₁ − x₂ and b = 0.
    let x = ndarray::array![[1.0, 0.0], [0.0, 1.0]];
    let svm = train(x.view(), &[0, 1], 2).unwrap();
    let expected = ndarray::array![[1.0, -1.0], [-1.0, 1.0]];
    for (a, b) in svm.weights.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-5, "{svm:?}");
    }
    assert!(svm.bias.iter().all(|b| b.abs() < 1e-5), "{svm:?}");
}

#[test]
fn coordinate_descent_agrees_with_linfa() {
    let (x, labels) = clusters(6, 10, 24, 1.6);
    let records = x.mapv(f64::from);
    let dense = one_vs_rest(x.ncols(), 6, &labels, |is_class, c| {
        fit_dense(records.view(), is_class, c)
    })
    .unwrap();
    let direct = descend_together(x.view(), &labels, 6).unwrap();
    for row in x.outer_iter() {
        let (a, b) = (dense.decide(row).unwrap(), direct.decide(row).unwrap());
        assert_eq!(argmax(a.view()), argmax(b.view()));
        for (a, b) in a.iter().zip(&b) {
            // One solver regularises the bias slightly, the other not at all.
            assert!((a - b).abs() < 0.03, "{a} {b}");
        }
    }
}

#[test]
fn samples_that_were_missed_at_first_are_found() {
    // Each class has ten times as many samples of other classes as it starts with, all near it.
    let (x, labels) = clusters(5, 10 * NEAREST / 4, 16, 3.0);
    let together = descend_together(x.view(), &labels, 5).unwrap();
    for class in 0..5 {
        let members: Vec<usize> = (0..x.nrows()).filter(|&i| labels[i] == class).collect();
        let mut all = Descent::new(x.view(), &members);
        for sample in (0..x.nrows()).filter(|&i| labels[i] != class) {
            all.take(x.view(), sample, -1.0);
        }
        all.run();
        let (c_class, c_rest) = balanced(members.len(), x.nrows());
        let objective = |w: ArrayView1<f32>, bias: f32| {
            let losses = x.outer_iter().zip(&labels).map(|(row, &label)| {
                let (y, c) = match label == class {
                    true => (1.0, c_class),
                    false => (-1.0, c_rest),
                };
                c * (1.0 - y * f64::from(w.dot(&row) + bias)).max(0.0)
            });
            f64::from(w.dot(&w)) / 2.0 + losses.sum::<f64>()
        };
        let found = objective(together.weights.row(class), together.bias[class]);
        let expected = objective(all.w.view(), all.bias as f32);
        // Both solvers stop slightly before the optimum.
        assert!((found / expected - 1.0).abs() < 0.01, "{found} {expected}");
    }
}

#[test]
fn a_person_with_many_photos_does_not_win_the_undecided() {
    // Nineteen samples against one, mirrored: half way between them neither class may win.
    let mut x = Array2::zeros((20, 2));
    x.column_mut(0).fill(1.0);
    x[[19, 0]] = -1.0;
    let labels: Vec<usize> = (0..20).map(|i| i / 19).collect();
    let svm = train(x.view(), &labels, 2).unwrap();
    let values = svm.decide(ndarray::array![0.0, 1.0].view()).unwrap();
    assert!((values[0] - values[1]).abs() < 1e-5, "{values}");
}

#[test]
fn training_twice_gives_the_same_bits() {
    let (x, labels) = clusters(5, 6, 16, 1.5);
    assert_eq!(
        train(x.view(), &labels, 5).unwrap(),
        train(x.view(), &labels, 5).unwrap()
    );
    // The samples exceed the limit, beyond which they are visited in random order.
    let (x, labels) = clusters(3, 400, 8, 1.5);
    assert!(x.nrows() > DENSE_LIMIT);
    let svm = train(x.view(), &labels, 3).unwrap();
    assert_eq!(svm, train(x.view(), &labels, 3).unwrap());
}

#[test]
fn one_class_alone_has_its_margin_half_way_to_a_right_angle() {
    let x = ndarray::array![[1.0, 0.0], [0.0, 1.0]];
    let svm = train(x.view(), &[0, 0], 1).unwrap();
    let value = svm.decide(ndarray::array![1.0, 0.0].view()).unwrap()[0];
    assert!((value - (2.0_f32.sqrt() - 1.0)).abs() < 1e-6);
}

#[test]
fn samples_equal_in_both_classes_still_give_finite_machines() {
    let x = ndarray::array![[1.0, 0.0], [1.0, 0.0]];
    let svm = train(x.view(), &[0, 1], 2).unwrap();
    assert!(svm.weights.iter().chain(&svm.bias).all(|v| v.is_finite()));
}

#[test]
fn training_data_that_cannot_be_are_refused() {
    let x = ndarray::array![[1.0, 0.0], [0.0, 1.0]];
    let error = |labels: &[usize], classes| train(x.view(), labels, classes).unwrap_err();
    assert_eq!(
        error(&[0], 1).to_string(),
        "every embedding needs a label: got 2 embeddings and 1 labels"
    );
    assert_eq!(
        error(&[0, 0], usize::MAX),
        SvmError::EmptyClass { class: 1 }
    );
    assert_eq!(
        error(&[0, 2], 2),
        SvmError::UnknownClass {
            sample: 1,
            label: 2,
            classes: 2
        }
    );
    assert!(matches!(error(&[], 0), SvmError::Empty { .. }));
    let x = ndarray::array![[1.0, f32::NAN]];
    let error = train(x.view(), &[0], 1).unwrap_err();
    assert_eq!(error, SvmError::NotFinite { sample: 0 });
}

#[test]
fn an_embedding_of_another_size_has_no_decision_value() {
    let x = ndarray::array![[1.0, 0.0]];
    let svm = train(x.view(), &[0], 1).unwrap();
    assert_eq!(svm.decide(ndarray::array![1.0].view()), None);
}
