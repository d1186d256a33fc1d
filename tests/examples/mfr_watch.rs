//! `mfr-watch`: the people in front of cameras, as lines of JSON.

use super::*;

#[test]
fn tells_who_comes_and_goes_in_two_files() {
    let Some(watch) = application("mfr-watch") else {
        return;
    };
    let other = STAGE.path("another clip.mp4");
    film(&photo("obama2.jpg"), &other);
    let sources = [STAGE.clip(), other];
    let database = STAGE.gallery();
    let output = STAGE.run(
        watch,
        &[&sources[0], "--database".as_ref(), &database, &sources[1]],
    );
    let lines = json_lines(&output);
    for source in &sources {
        let events: Vec<_> = lines
            .iter()
            .filter(|line| line["source"].as_str() == source.to_str())
            .map(|line| (line["event"].as_str(), line["identity"]["label"].as_str()))
            .collect();
        let of_person = ["identified", "left"].map(|event| (Some(event), Some(PERSON)));
        assert_eq!(events, of_person, "{}", text(&output));
    }
    let first = &lines[0];
    assert_eq!(first["timestamp"], 0, "{first}");
    assert_eq!(first["mask"]["label"], "without_mask", "{first}");
    assert!(
        first["identity"]["similarity"].as_f64() > Some(0.5),
        "{first}"
    );
    assert!(first["w"].as_i64() > Some(100), "{first}");
}

#[test]
fn goes_on_when_one_of_its_sources_fails() {
    let Some(watch) = application("mfr-watch") else {
        return;
    };
    let no_video = source_tree().join("LICENSE");
    let output = STAGE.run(
        watch,
        &[
            &no_video,
            &STAGE.clip(),
            "--database".as_ref(),
            &STAGE.gallery(),
        ],
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let named = format!("mfr-watch: {}: ", no_video.display());
    assert!(stderr.starts_with(&named), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains(PERSON), "{}", text(&output));
}

#[test]
fn prints_a_line_for_each_frame() {
    let Some(watch) = application("mfr-watch") else {
        return;
    };
    let output = STAGE.run(
        watch,
        &[
            "--frames".as_ref(),
            "--database".as_ref(),
            &STAGE.gallery(),
            &STAGE.clip(),
        ],
    );
    let lines = json_lines(&output);
    assert_eq!(lines.len(), FRAMES as usize);
    for (index, line) in lines.iter().enumerate() {
        // The clip has 25 frames per second.
        assert_eq!(line["timestamp"], index as u64 * 40_000_000);
        assert_eq!(line["resolution"]["width"], 334);
        assert_eq!(line["resolution"]["height"], 640);
        let object = &line["objects"][0];
        assert_eq!(object["identity"]["label"], PERSON, "{line}");
        assert_eq!(object["identity"]["model"]["name"], "facenet", "{line}");
        // The box is given twice: in pixels and as fractions of the frame.
        let left = object["detection"]["bounding_box"]["x_min"].as_f64();
        let x = object["x"].as_f64();
        let apart = (left.unwrap() * 334.0 - x.unwrap()).abs();
        assert!(apart <= 0.5, "{line}");
    }
}

#[test]
fn comes_back_to_a_camera_that_was_away() {
    let (Some(watch), Some(python)) = (
        application("mfr-watch"),
        python_with("GstRtspServer", "gir1.2-gst-rtsp-server-1.0"),
    ) else {
        return;
    };
    // The port is free now; the camera has to come back at the same one.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let port = port.unwrap().port().to_string();
    let camera = || {
        let mut camera = Command::new(python)
            .arg(source_tree().join("tests/rtsp_camera.py"))
            .args([port.as_ref(), photo("obama2.jpg").as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(camera.stdout.take().unwrap());
        let camera = Process(camera);
        await_line(&stdout, "ready");
        camera
    };
    let first_camera = camera();
    let uri = |user| format!("rtsp://{user}127.0.0.1:{port}/camera");
    let mut watch = STAGE
        .command(watch)
        .args([uri("user:secret@"), "--database".into()])
        .arg(STAGE.gallery())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = lines(watch.stdout.take().unwrap());
    let stderr = lines(watch.stderr.take().unwrap());
    let mut watch = Process(watch);

    let seen = await_line(&stdout, "identified");
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["identity"]["label"], PERSON, "{seen}");
    // The URI is printed without the password.
    assert_eq!(seen["source"], uri(""), "{seen}");

    drop(first_camera);
    await_line(&stdout, "left");
    let told = await_line(&stderr, "trying again in");
    assert!(told.contains(&uri("")), "{told}");
    let _second_camera = camera();
    await_line(&stdout, "identified");

    let interrupt = format!("kill -INT {}", watch.0.id());
    Command::new("sh")
        .args(["-c", &interrupt])
        .status()
        .unwrap();
    await_line(&stdout, "left");
    assert!(watch.0.wait().unwrap().success());
}

#[test]
fn ends_quietly_when_nobody_reads_it() {
    let Some(watch) = application("mfr-watch") else {
        return;
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = STAGE
        .command(watch)
        .arg(STAGE.clip())
        .arg("--database")
        .arg(STAGE.gallery())
        .stdout(writer)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "");
}

/// A server on the loopback interface that answers every connection in a thread of its own; returns the port.
fn serve(answer: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = std::sync::Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

/// Sends what a network camera like an ESP32-CAM does: an endless stream of JPEGs, ten per second.
fn send_mjpeg(mut stream: std::net::TcpStream) -> std::io::Result<()> {
    use std::io::Write;
    let jpeg = std::fs::read(photo("obama2.jpg"))?;
    let mut request = BufReader::new(stream.try_clone()?).lines();
    while !request.next().unwrap_or(Ok(String::new()))?.is_empty() {}
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n",
    )?;
    loop {
        let head = format!(
            "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            jpeg.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&jpeg)?;
        stream.write_all(b"\r\n")?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs `mfr-watch` with these sources; returns the process and the lines of its standard output and standard error.
fn watching(
    program: &Path,
    sources: &[String],
) -> (Process, mpsc::Receiver<String>, mpsc::Receiver<String>) {
    let mut watch = STAGE
        .command(program)
        .args(sources)
        .arg("--database")
        .arg(STAGE.gallery())
        .args(["--stall", "3", "--min-face-size", "80"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = lines(watch.stdout.take().unwrap());
    let stderr = lines(watch.stderr.take().unwrap());
    (Process(watch), stdout, stderr)
}

#[test]
fn jpegs_over_http_are_a_video() {
    let Some(watch) = application("mfr-watch") else {
        return;
    };
    let port = serve(|stream| {
        // Sending ends with an error when the client has disconnected.
        let _ = send_mjpeg(stream);
    });
    let source = format!("http://admin:se/cret@127.0.0.1:{port}/stream?token=t0k3n");
    // A URI whose password contains a slash cannot be connected to, so one without it is passed as well.
    let plain = format!("http://127.0.0.1:{port}/stream?token=t0k3n");
    let (_process, stdout, _stderr) = watching(&watch, &[plain, source]);
    let seen: Value = serde_json::from_str(&await_line(&stdout, "identified")).unwrap();
    assert_eq!(seen["identity"]["label"], PERSON, "{seen}");
    let hidden = format!("http://127.0.0.1:{port}/stream?token=***");
    assert_eq!(seen["source"], hidden, "{seen}");
}

#[test]
fn sources_that_are_not_there_hang_or_send_garbage_leave_the_others_alone() {
    let Some(watch) = application("mfr-watch") else {
        return;
    };
    let hanging = serve(|mut stream| {
        // The server accepts the request and never answers.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let garbage = serve(|mut stream| {
        use std::io::Write;
        let noise: Vec<u8> = (0..4096u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        while stream.write_all(&noise).is_ok() {}
    });
    let missing = "/dev/v4l/by-id/usb-no-such-camera".to_owned();
    let away = "rtsp://user:secret@127.0.0.1:9/none".to_owned();
    let sources = [
        missing.clone(),
        away,
        format!("rtsp://127.0.0.1:{hanging}/a"),
        format!("rtsp://127.0.0.1:{garbage}/b"),
        format!("http://127.0.0.1:{garbage}/c"),
        format!("http://127.0.0.1:{hanging}/d"),
        STAGE.clip().display().to_string(),
    ];
    let (mut process, stdout, stderr) = watching(&watch, &sources);
    let (mut told, mut seen) = (Vec::new(), String::new());
    // Each source is retried, and meanwhile the clip is read to its end.
    for event in ["identified", "left"] {
        seen = await_line(&stdout, event);
    }
    for _ in 0..6 {
        told.push(await_line(&stderr, "trying again in"));
    }
    assert!(seen.contains(PERSON), "{seen}");
    assert!(told.iter().any(|line| line.contains(&missing)), "{told:?}");
    assert!(
        told.iter()
            .any(|line| line.contains("rtsp://127.0.0.1:9/none")),
        "{told:?}"
    );
    assert!(!told.iter().any(|line| line.contains("secret")), "{told:?}");
    let interrupt = format!("kill -INT {}", process.0.id());
    Command::new("sh")
        .args(["-c", &interrupt])
        .status()
        .unwrap();
    // The program ends although a source hangs.
    process.0.wait().unwrap();
}

#[test]
fn stops_the_pipelines_of_sources_that_fail_in_several_elements() {
    let Some(watch) = application("mfr-watch") else {
        return;
    };
    // The source and the type finder each post an error, the second of which may arrive while the pipeline is
    // stopped.
    let port = serve(|mut stream| {
        use std::io::Write;
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    });
    let sources: Vec<_> = (0..8)
        .map(|n| format!("http://127.0.0.1:{port}/{n}"))
        .collect();
    let (_process, _stdout, stderr) = watching(&watch, &sources);
    // There are three attempts per source.
    for _ in 0..3 * sources.len() {
        let told = stderr.recv_timeout(Duration::from_secs(60)).unwrap();
        // GStreamer would log a critical message for an element that is disposed of in another state than NULL.
        assert!(told.contains("Not Found (404)"), "{told}");
    }
}
