//! Renders the page: HTML with embedded style, images and diagrams.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::chart::{error_curves, histogram, percent};
use super::html::escaped;
use super::scores::GalleryScores;
use super::{Couple, HtmlReport, Note, PersonSheet, PhotoEntry, Subject, photos};
use crate::output::counted;
use crate::vision::reason::Reason;

/// Maximum number of images on a page, so that a browser can show it: 3,000 are some 15 MB.
const MAX_PICTURES: usize = 3000;
/// Maximum number of images of a person's used photos, and of the rejected ones.
const MAX_PICTURES_PER_PERSON: usize = 24;

/// Thresholds in the table, in addition to the gallery's own.
const TABLE: [f32; 8] = [0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7];

const STYLE: &str = include_str!("style.css");

pub fn html(report: &HtmlReport) -> String {
    let mut page = Page::new(report);
    page.header(report);
    page.attention(report);
    if let Some(measured) = &report.measured {
        page.scores(measured);
    }
    page.couples("Most like each other", NEAREST_TEXT, &report.nearest);
    page.people(report);
    page.finish()
}

const NEAREST_TEXT: &str = "The pairs of people whom the camera is most likely to take for each \
    other, with the photo of each that is most like the other. The number is the mean similarity \
    of their photos.";
const THRESHOLD_TEXT: &str = "<p>A face that is less similar than the threshold to everybody is \
    called unknown. A higher threshold names fewer strangers by mistake and misses more of your \
    people; a lower one does the opposite. What the gallery holds is in colour. For another one \
    set <code>threshold</code> of <code>mfrrecognize</code>.</p>";
const ALIKE_TEXT: &str = "These look like one person with two names. If they are, put their \
    photos into one folder; relatives may look like this as well.";
const REJECTED_TEXT: &str = "Not learned from. They are shown with their person below.";
const SUSPICIOUS_TEXT: &str = "Used, but unlike the person's other photos: somebody else, or an \
    unusual photo. Take wrong ones out and enrol again.";

/// The page while it is written.
struct Page {
    html: String,
    /// Whether there are any images.
    has_pictures: bool,
    /// Number of images that may still be added.
    room: usize,
    per_person: usize,
}

impl Page {
    fn new(report: &HtmlReport) -> Self {
        let people = report.people.len().max(1);
        Self {
            html: String::new(),
            has_pictures: report.has_pictures(),
            room: MAX_PICTURES,
            per_person: (MAX_PICTURES / people).clamp(1, MAX_PICTURES_PER_PERSON),
        }
    }

    fn add(&mut self, html: &str) {
        self.html += html;
    }

    /// Adds text between tags.
    fn text(&mut self, text: &str) {
        self.html += &escaped(text);
    }

    fn header(&mut self, report: &HtmlReport) {
        self.add(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\"><title>",
        );
        let title = match report.about {
            Subject::Enrolment => "Enrolment report",
            Subject::Discovery => "People found",
        };
        self.add(title);
        self.add(": ");
        self.text(&report.subject);
        self.add("</title><style>");
        self.add(STYLE);
        self.add("</style></head><body><header><h1>");
        self.add(title);
        self.add("</h1><p class=\"subject\">");
        self.text(&report.subject);
        self.add("</p><p class=\"quiet\">");
        self.text(&report.made);
        self.add("</p></header><main><ul class=\"tiles\">");
        for (value, what) in &report.tiles {
            self.add("<li><b>");
            self.text(value);
            self.add("</b><span>");
            self.text(what);
            self.add("</span></li>");
        }
        self.add("</ul>");
    }

    /// Adds the sections that the user should look at.
    fn attention(&mut self, report: &HtmlReport) {
        self.couples(
            "The same person under two names?",
            ALIKE_TEXT,
            &report.alike,
        );
        let suspicious: Vec<_> = report
            .people
            .iter()
            .flat_map(|person| &person.used)
            .filter(|face| matches!(face.note, Note::Suspicious(_)))
            .collect();
        if !suspicious.is_empty() {
            self.section("Suspicious photos", SUSPICIOUS_TEXT);
            self.cards(&suspicious);
            self.add("</section>");
        }
        let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
        let rejected = report.people.iter().flat_map(|person| &person.rejected);
        for face in rejected.chain(&report.strays) {
            if let Note::Rejected(reason, _) = face.note {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        if !reasons.is_empty() {
            self.section("Rejected photos", REJECTED_TEXT);
            self.add("<ul class=\"reasons\">");
            for (reason, count) in reasons {
                let _ = write!(self.html, "<li><b>{count}</b> {}</li>", reason.in_words());
            }
            self.add("</ul></section>");
        }
    }

    fn section(&mut self, title: &str, text: &str) {
        let _ = write!(self.html, "<section><h2>{title}</h2><p>{text}</p>");
    }

    fn scores(&mut self, measured: &GalleryScores) {
        self.section(
            "How well people are told apart",
            "Every photo is compared with its own person as if it were not in the gallery, and with \
             the most similar of the others, as a stranger would be. The farther apart the two \
             hills, the better. These are the photos of enrolment; a camera sees worse.",
        );
        if measured.bare.is_empty() && measured.masked.is_empty() {
            self.add(
                "<p class=\"quiet\">There is too little to measure: it takes two people, one of \
                 them with two photos.</p></section>",
            );
            return;
        }
        self.add("<div class=\"charts\">");
        let [bare, masked] = measured.thresholds;
        let both = [
            ("Similarities", &measured.bare, bare),
            ("Similarities of masked faces", &measured.masked, masked),
        ];
        for (title, scores, threshold) in both {
            if !scores.is_empty() {
                self.chart(title, &histogram(scores, threshold), &HISTOGRAM_KEY);
            }
        }
        let has_masked = !measured.masked.is_empty();
        let key: &[_] = if has_masked { &MASKED_KEY } else { &CURVES_KEY };
        self.chart("Errors at each threshold", &error_curves(measured), key);
        self.thresholds(measured);
        self.add("</div></section>");
    }

    fn chart(&mut self, title: &str, svg: &str, key: &[(&str, &str)]) {
        let _ = write!(self.html, "<figure class=\"chart\"><h3>{title}</h3>{svg}");
        self.add("<figcaption>");
        for (class, text) in key {
            let _ = write!(self.html, "<span class=\"key {class}\">{text}</span>");
        }
        self.add("</figcaption></figure>");
    }

    /// Adds a table of the effects of other thresholds.
    fn thresholds(&mut self, measured: &GalleryScores) {
        let [bare, masked] = measured.thresholds;
        let kinds = [
            ("bare", &measured.bare, bare),
            ("masked", &measured.masked, masked),
        ];
        let kinds: Vec<_> = kinds
            .into_iter()
            .filter(|(_, s, _)| !s.is_empty())
            .collect();
        self.add(
            "<figure class=\"chart\"><h3>Thresholds</h3><div class=\"scroll\"><table>\
             <thead><tr><th></th>",
        );
        for (name, _, _) in &kinds {
            let _ = write!(self.html, "<th colspan=\"2\">{name} faces</th>");
        }
        self.add("</tr><tr><th>threshold</th>");
        for _ in &kinds {
            self.add("<th>strangers named</th><th>people missed</th>");
        }
        self.add("</tr></thead><tbody>");
        let mut rows: Vec<f32> = TABLE.to_vec();
        rows.extend(kinds.iter().map(|(_, _, own)| own));
        rows.sort_by(f32::total_cmp);
        // Thresholds that are equal in the digits shown are merged.
        rows.dedup_by(|a, b| (*a - *b).abs() < 0.005);
        for threshold in rows {
            let _ = write!(self.html, "<tr><th>{threshold:.2}</th>");
            for (_, scores, own) in &kinds {
                let is_own = (threshold - own).abs() < 0.005;
                let (class, threshold) = if is_own {
                    (" class=\"own\"", *own)
                } else {
                    ("", threshold)
                };
                let _ = write!(
                    self.html,
                    "<td{class}>{}</td><td{class}>{}</td>",
                    percent(scores.accepted_falsely(threshold)),
                    percent(scores.rejected_falsely(threshold))
                );
            }
            self.add("</tr>");
        }
        self.add("</tbody></table></div></figure>");
        self.add(if kinds.len() > 1 {
            "<div class=\"wide\">"
        } else {
            "<div>"
        });
        self.add(THRESHOLD_TEXT);
        let strangers: usize = kinds.iter().map(|(_, s, _)| s.impostor.len()).sum();
        let people: usize = kinds.iter().map(|(_, s, _)| s.genuine.len()).sum();
        let _ = write!(
            self.html,
            "<p class=\"quiet\">From {} as strangers and {} as themselves. Where there are few, a \
             single one is a large share.</p></div>",
            counted(strangers, "face"),
            counted(people, "face")
        );
    }

    fn couples(&mut self, title: &str, text: &str, couples: &[Couple]) {
        if couples.is_empty() {
            return;
        }
        self.section(title, text);
        self.add(if self.has_pictures {
            "<ul class=\"couples\">"
        } else {
            "<ul class=\"couples names\">"
        });
        for couple in couples {
            self.add("<li>");
            for (face, name) in couple.faces.iter().zip(couple.people) {
                self.add("<figure>");
                self.picture(face);
                self.add("<figcaption>");
                self.text(name);
                self.add("</figcaption></figure>");
            }
            let _ = write!(self.html, "<b>{:.2}</b></li>", couple.similarity);
        }
        self.add("</ul></section>");
    }

    fn people(&mut self, report: &HtmlReport) {
        if report.people.is_empty() && report.strays.is_empty() {
            return;
        }
        self.add("<section><h2>People</h2><div class=\"people\">");
        for sheet in &report.people {
            self.sheet(sheet, report.about);
        }
        if !report.strays.is_empty() {
            self.add("<article><h3>Nobody's</h3>");
            self.cards(&report.strays.iter().collect::<Vec<_>>());
            self.add("</article>");
        }
        self.add("</div></section>");
    }

    fn sheet(&mut self, sheet: &PersonSheet, about: Subject) {
        self.add("<article><h3>");
        self.text(sheet.name);
        let count = match about {
            Subject::Enrolment => format!("{} used", counted(photos(&sheet.used), "photo")),
            Subject::Discovery => counted(sheet.used.len(), "face"),
        };
        let _ = write!(self.html, " <small>{count}");
        if !sheet.rejected.is_empty() {
            let _ = write!(self.html, ", {} rejected", sheet.rejected.len());
        }
        if sheet.used.is_empty() {
            self.add(" · <em>not in the gallery</em>");
        }
        self.add("</small></h3>");
        // Without images a contact sheet is useless.
        if sheet.used.iter().any(|face| face.picture.is_some()) {
            self.add("<ul class=\"faces\">");
            for face in sheet.used.iter().take(self.per_person) {
                self.face(face);
            }
            self.add("</ul>");
            self.more(sheet.used.len());
        }
        self.cards(&sheet.rejected.iter().collect::<Vec<_>>());
        self.add("</article>");
    }

    /// Adds the number of faces that are not shown.
    fn more(&mut self, all: usize) {
        if all > self.per_person {
            let rest = all - self.per_person;
            let _ = write!(self.html, "<p class=\"quiet\">and {rest} more</p>");
        }
    }

    /// Adds a used photo, followed by its masked copies.
    fn face(&mut self, face: &PhotoEntry) {
        let class = match face.note {
            Note::Suspicious(_) => " class=\"odd\"",
            _ => "",
        };
        let _ = write!(self.html, "<li{class}><figure>");
        self.picture(face);
        self.add("<figcaption>");
        self.text(file_name(&face.path));
        self.add("</figcaption></figure></li>");
        for copy in &face.masked {
            self.add("<li class=\"copy\"><figure>");
            self.image(Some(copy.picture), &format!("{}, {}", face.path, copy.kind));
            self.add("<figcaption>");
            self.text(copy.kind);
            self.add("</figcaption></figure></li>");
        }
    }

    /// Adds photos with a remark on each.
    fn cards(&mut self, faces: &[&PhotoEntry]) {
        if faces.is_empty() {
            return;
        }
        self.add("<ul class=\"cards\">");
        for face in faces.iter().take(self.per_person) {
            let (class, title, detail) = match &face.note {
                Note::None => ("", "", ""),
                Note::Suspicious(detail) => ("odd", "suspicious", detail.as_str()),
                Note::Rejected(reason, detail) => ("bad", reason.in_words(), detail.as_str()),
            };
            let _ = write!(self.html, "<li class=\"{class}\">");
            self.picture(face);
            let _ = write!(self.html, "<div><b>{title}</b><p>");
            self.text(detail);
            self.add("</p><small>");
            self.text(&face.path);
            self.add("</small></div></li>");
        }
        self.add("</ul>");
        self.more(faces.len());
    }

    fn picture(&mut self, face: &PhotoEntry) {
        let title = match &face.measured {
            Some(measured) => format!("{}\n{measured}", face.path),
            None => face.path.clone(),
        };
        self.image(face.picture, &title);
    }

    fn image(&mut self, jpeg: Option<&[u8]>, title: &str) {
        let title = escaped(title);
        match jpeg {
            Some(jpeg) if self.room > 0 => {
                self.room -= 1;
                let data = STANDARD.encode(jpeg);
                let _ = write!(
                    self.html,
                    "<img alt=\"\" title=\"{title}\" width=\"96\" height=\"96\" \
                     src=\"data:image/jpeg;base64,{data}\">"
                );
            }
            _ if self.has_pictures => {
                let _ = write!(self.html, "<i class=\"blank\" title=\"{title}\"></i>");
            }
            _ => {}
        }
    }

    fn finish(mut self) -> String {
        self.add(
            "</main><footer>This page shows faces and names: keep it as you keep the photos, and \
             delete it when it is no longer needed.</footer></body></html>\n",
        );
        self.html
    }
}

const HISTOGRAM_KEY: [(&str, &str); 2] = [
    ("genuine", "the right person"),
    ("impostor", "the most similar stranger"),
];
const CURVES_KEY: [(&str, &str); 2] = [
    ("genuine", "people missed"),
    ("impostor", "strangers named"),
];
const MASKED_KEY: [(&str, &str); 4] = [
    ("genuine", "people missed"),
    ("impostor", "strangers named"),
    ("genuine dashed", "people missed, masked"),
    ("impostor dashed", "strangers named, masked"),
];

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::scores::Scores;
    use super::*;

    const JPEG: &[u8] = b"\xff\xd8 no picture";

    fn face(path: &str, note: Note) -> PhotoEntry<'static> {
        PhotoEntry {
            path: path.to_owned(),
            picture: Some(JPEG),
            measured: Some("160 pixels".to_owned()),
            note,
            masked: Vec::new(),
        }
    }

    fn page(mut report: HtmlReport) -> String {
        report.count();
        html(&report)
    }

    #[test]
    fn names_and_paths_cannot_become_html() {
        let evil = "<script>alert('\"&')</script>\u{1b}[2J";
        let sheet = || PersonSheet {
            name: evil,
            used: vec![face(evil, Note::Suspicious(evil.to_owned()))],
            rejected: vec![face(evil, Note::Rejected(Reason::Outlier, evil.to_owned()))],
        };
        let page = page(HtmlReport {
            subject: evil.to_owned(),
            made: evil.to_owned(),
            people: vec![sheet()],
            strays: vec![face(
                evil,
                Note::Rejected(Reason::Unreadable, evil.to_owned()),
            )],
            alike: vec![Couple {
                similarity: 0.7,
                people: [evil; 2],
                faces: [face(evil, Note::None), face(evil, Note::None)],
            }],
            ..HtmlReport::default()
        });
        assert!(!page.contains("<script") && !page.contains("alert('"));
        assert!(!page.contains('\u{1b}'));
        assert!(page.contains("&lt;script&gt;alert(&#39;&quot;&amp;&#39;)"));
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let measured = GalleryScores {
            bare: Scores {
                genuine: vec![0.7, 0.8],
                impostor: vec![0.2, 0.3],
            },
            masked: Scores {
                genuine: vec![0.6],
                impostor: vec![0.3],
            },
            thresholds: [0.41, 0.35],
        };
        let mut used = face("Ana/1.jpg", Note::None);
        used.masked.push(super::super::MaskedThumbnail {
            kind: "surgical",
            picture: JPEG,
        });
        let page = page(HtmlReport {
            people: vec![PersonSheet {
                name: "Ana",
                used: vec![used],
                rejected: vec![],
            }],
            measured: Some(measured),
            ..HtmlReport::default()
        });
        for absent in ["http:", "https:", "<script", "<link", "url(", "@import"] {
            assert!(!page.contains(absent), "{absent}");
        }
        assert_eq!(page.matches("src=").count(), 2);
        assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 2);
        // There are two histograms and the curves.
        assert_eq!(page.matches("<svg").count(), 3);
        // The bare and the masked threshold are highlighted, each with its two error rates.
        let own = "<td class=\"own\">0 %</td><td class=\"own\">0 %</td>";
        let other = "<td>0 %</td><td>0 %</td>";
        assert!(page.contains(&format!("<th>0.41</th>{own}{other}")));
        assert!(page.contains(&format!("<th>0.35</th>{other}{own}")));
        assert!(page.contains("surgical"));
    }

    #[test]
    fn a_page_of_nobody_is_a_page() {
        let page = page(HtmlReport {
            people: vec![PersonSheet {
                name: "Ana",
                used: vec![],
                rejected: vec![face(
                    "Ana/1.jpg",
                    Note::Rejected(Reason::NoFace, "no face in 1×1 pixels".to_owned()),
                )],
            }],
            measured: Some(GalleryScores::default()),
            ..HtmlReport::default()
        });
        assert!(page.contains("not in the gallery"));
        assert!(page.contains("no face in 1×1 pixels"));
        assert!(page.contains("too little to measure"));
        assert!(html(&HtmlReport::default()).ends_with("</html>\n"));
    }

    #[test]
    fn many_photos_are_counted_instead_of_shown() {
        let faces = |count| {
            (0..count)
                .map(|i| face(&i.to_string(), Note::None))
                .collect()
        };
        let sheet = |used| PersonSheet {
            name: "Ana",
            used,
            rejected: vec![],
        };
        let one = page(HtmlReport {
            people: vec![sheet(faces(30))],
            ..HtmlReport::default()
        });
        assert_eq!(one.matches("<img").count(), MAX_PICTURES_PER_PERSON);
        assert!(one.contains("and 6 more"));
        let crowd = page(HtmlReport {
            people: (0..4000).map(|_| sheet(faces(2))).collect(),
            ..HtmlReport::default()
        });
        assert_eq!(crowd.matches("<img").count(), MAX_PICTURES);
    }
}
