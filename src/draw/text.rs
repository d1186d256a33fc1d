//! Renders text to coverage: shaping, font fallback and rasterisation by cosmic-text, with a bounded cache.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use cosmic_text::fontdb::{Database, Source};
use cosmic_text::{
    Align, Attrs, Buffer, Ellipsize, EllipsizeHeightLimit, Family, FontSystem, Metrics, Shaping,
    SwashCache, SwashContent, SwashImage, Wrap,
};

/// The embedded font: Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew, Arabic and many symbols.
const FAMILY: &str = "DejaVu Sans";
/// Line height and baseline in ems: room for DejaVu's ascenders (0.93, including diacritics on capitals) and
/// descenders (0.24), and a little spacing.
const LINE_HEIGHT: f32 = 1.4;
const BASELINE: f32 = 1.03;
/// Longer texts are truncated before they are shaped, because the rest would not be visible anyway.
const MAX_CHARS: usize = 96;
/// Maximum number of cached texts. 200 faces have at most 200 names, 101 similarities and two mask states.
const MAX_ENTRIES: usize = 512;
/// Maximum number of cached bytes of pixels.
const MAX_BYTES: usize = 8 << 20;

/// One line of text as coverage.
#[derive(Debug, Default)]
pub(super) struct TextMask {
    pub width: usize,
    pub height: usize,
    coverage: Vec<u8>,
}

impl TextMask {
    /// Copies the coverage of the pixels from (x, y) on.
    pub fn row(&self, x: usize, y: usize, out: &mut [u8]) {
        let start = y * self.width + x;
        out.copy_from_slice(&self.coverage[start..start + out.len()]);
    }

    /// Whether no pixel is covered.
    #[cfg(test)]
    pub fn is_blank(&self) -> bool {
        self.coverage.iter().all(|&c| c == 0)
    }

    fn add(&mut self, image: &SwashImage, x: i64, y: i64) {
        let width = image.placement.width as usize;
        let bytes = match image.content {
            SwashContent::Mask => 1,
            SwashContent::Color | SwashContent::SubpixelMask => 4,
        };
        if width == 0 {
            return;
        }
        for (row, y) in image.data.chunks_exact(width * bytes).zip(y..) {
            for (pixel, x) in row.chunks_exact(bytes).zip(x..) {
                let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
                    continue;
                };
                if x < self.width && y < self.height {
                    let to = &mut self.coverage[y * self.width + x];
                    *to = to.saturating_add(ink(pixel));
                }
            }
        }
    }
}

/// Coverage from a glyph's pixel. Coloured glyphs (emoji) are drawn in the text's colour: the
/// darker a pixel, the higher its coverage.
fn ink(pixel: &[u8]) -> u8 {
    match *pixel {
        [coverage] => coverage,
        [r, g, b, a] => {
            let luma = (u32::from(r) * 3 + u32::from(g) * 6 + u32::from(b)) / 10;
            (u32::from(a) * (255 - luma * 3 / 4) / 255) as u8
        }
        _ => 0,
    }
}

/// The parameters that a mask was rendered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Layout {
    size: u32,
    max_width: u32,
}

#[derive(Debug)]
struct Entry {
    text: String,
    layout: Layout,
    mask: Arc<TextMask>,
    used: u64,
}

/// Masks by text and layout; the least recently used are evicted first.
#[derive(Debug, Default)]
struct Cache {
    hasher: RandomState,
    /// Entries by hash, so that a look-up needs no owned text. A collision only costs another rendering.
    entries: HashMap<u64, Entry>,
    bytes: usize,
    clock: u64,
}

impl Cache {
    fn get(&mut self, text: &str, layout: Layout) -> Option<Arc<TextMask>> {
        self.clock += 1;
        let key = self.hasher.hash_one((text, layout));
        let entry = self.entries.get_mut(&key)?;
        if entry.text != text || entry.layout != layout {
            return None;
        }
        entry.used = self.clock;
        Some(Arc::clone(&entry.mask))
    }

    fn insert(&mut self, text: &str, layout: Layout, mask: Arc<TextMask>) {
        let size = mask.coverage.len();
        if size > MAX_BYTES {
            return;
        }
        while self.entries.len() >= MAX_ENTRIES || self.bytes + size > MAX_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, e)| e.used);
            let Some(key) = oldest.map(|(&key, _)| key) else {
                break;
            };
            self.remove(key);
        }
        let key = self.hasher.hash_one((text, layout));
        self.remove(key);
        self.bytes += size;
        let entry = Entry {
            text: text.to_owned(),
            layout,
            mask,
            used: self.clock,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: u64) {
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.mask.coverage.len();
        }
    }
}

/// Renders texts to masks, and caches them.
pub(super) struct Typesetter {
    fonts: FontSystem,
    glyphs: SwashCache,
    buffer: Buffer,
    has_system_fonts: bool,
    cache: Cache,
}

impl fmt::Debug for Typesetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typesetter")
            .field("has_system_fonts", &self.has_system_fonts)
            .field("cached", &self.cache.entries.len())
            .finish_non_exhaustive()
    }
}

impl Typesetter {
    pub fn new() -> Self {
        let mut db = Database::new();
        db.load_font_source(Source::Binary(Arc::new(dejavu::sans::regular())));
        Self {
            fonts: FontSystem::new_with_locale_and_db(user_language(), db),
            glyphs: SwashCache::new(),
            buffer: Buffer::new_empty(metrics(16)),
            has_system_fonts: false,
            cache: Cache::default(),
        }
    }

    /// Height of a line of text in pixels.
    pub fn line_height(size: u32) -> u32 {
        (size as f32 * LINE_HEIGHT).round() as u32
    }

    /// One line of text at `size` pixels per em, shortened with "…" to `max_width` pixels.
    pub fn set(&mut self, text: &str, size: u32, max_width: u32) -> Arc<TextMask> {
        let layout = Layout { size, max_width };
        if let Some(mask) = self.cache.get(text, layout) {
            return mask;
        }
        let mask = Arc::new(self.render(text, layout));
        self.cache.insert(text, layout, Arc::clone(&mask));
        mask
    }

    fn render(&mut self, text: &str, layout: Layout) -> TextMask {
        // A line break or a control character in a name is drawn as a space.
        let line: String = text
            .chars()
            .take(MAX_CHARS)
            .map(|c| if is_break(c) { ' ' } else { c })
            .collect();
        self.shape(&line, layout);
        if !self.has_system_fonts && self.lacks_glyphs() {
            // Reads the headers of some hundred font files, so it is done only when a name needs it.
            self.fonts.db_mut().load_system_fonts();
            self.has_system_fonts = true;
            self.shape(&line, layout);
        }
        self.rasterise(layout)
    }

    fn shape(&mut self, line: &str, layout: Layout) {
        let attrs = Attrs::new().family(Family::Name(FAMILY));
        let buffer = &mut self.buffer;
        buffer.set_metrics(metrics(layout.size));
        buffer.set_wrap(Wrap::None);
        buffer.set_ellipsize(Ellipsize::End(EllipsizeHeightLimit::Lines(1)));
        buffer.set_size(Some(layout.max_width as f32), None);
        // Right-to-left texts are aligned to the left too, because the mask is as wide as the text.
        buffer.set_text(line, &attrs, Shaping::Advanced, Some(Align::Left));
        buffer.shape_until_scroll(&mut self.fonts, false);
    }

    fn lacks_glyphs(&self) -> bool {
        // Glyph 0 is "not defined" in every font.
        self.buffer
            .layout_runs()
            .any(|run| run.glyphs.iter().any(|g| g.glyph_id == 0))
    }

    fn rasterise(&mut self, layout: Layout) -> TextMask {
        let Some(run) = self.buffer.layout_runs().next() else {
            return TextMask::default();
        };
        let width = (run.line_w.ceil().max(0.0) as usize).min(layout.max_width as usize);
        let height = Self::line_height(layout.size) as usize;
        let mut mask = TextMask {
            width,
            height,
            coverage: vec![0; width * height],
        };
        let baseline = (layout.size as f32 * BASELINE).round() as i64;
        for glyph in run.glyphs {
            let at = glyph.physical((0.0, 0.0), 1.0);
            let Some(image) = self
                .glyphs
                .get_image_uncached(&mut self.fonts, at.cache_key)
            else {
                continue;
            };
            let x = i64::from(at.x) + i64::from(image.placement.left);
            let y = baseline + i64::from(at.y) - i64::from(image.placement.top);
            mask.add(&image, x, y);
        }
        mask
    }
}

/// The language of the environment, which selects among Chinese, Japanese and Korean forms of the
/// same character and has no other effect.
fn user_language() -> String {
    let mut set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .filter(|value| !value.is_empty());
    language(&set.next().unwrap_or_default())
}

/// "ja_JP.UTF-8" to "ja", "zh_TW" to "zh-TW": the names in cosmic-text's fallback lists.
fn language(posix: &str) -> String {
    let name = posix.split(['.', '@']).next().unwrap_or_default();
    match name.split_once('_') {
        Some(("zh", region)) => format!("zh-{region}"),
        Some((language, _)) => language.to_owned(),
        None => name.to_owned(),
    }
}

fn metrics(size: u32) -> Metrics {
    // cosmic-text panics on a size of zero.
    let size = size.max(1) as f32;
    Metrics::new(size, size * LINE_HEIGHT)
}

/// Whether a character would end the line or has no glyph by definition.
fn is_break(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 20;
    const WIDE: u32 = 1000;

    #[test]
    fn names_in_many_scripts_are_drawn() {
        let mut texts = Typesetter::new();
        for name in [
            "Ana Müller",
            "Ελένη Παπαδοπούλου",
            "Владимир",
            "محمد علي",
            "יעל כהן",
            "Նարե",
            "ნინო",
        ] {
            let mask = texts.set(name, SIZE, WIDE);
            assert!(!mask.is_blank(), "{name}");
            assert_eq!(mask.height, Typesetter::line_height(SIZE) as usize);
        }
        // All of these are in the embedded font.
        assert!(!texts.has_system_fonts);
    }

    #[test]
    fn letters_that_no_font_has_are_boxes_and_not_a_panic() {
        let mut texts = Typesetter::new();
        // Private use, unassigned, emoji with joiners, lone combining marks.
        for name in [
            "\u{10fffd}",
            "\u{50000}",
            "👩🏽‍🚀 Zoë",
            "\u{301}\u{20e3}",
            "王小明",
        ] {
            assert!(!texts.set(name, SIZE, WIDE).is_blank(), "{name:?}");
        }
        assert!(texts.has_system_fonts);
    }

    #[test]
    fn long_names_end_within_the_width_asked_for() {
        let mut texts = Typesetter::new();
        for name in ["M".repeat(100_000), "م".repeat(5_000), "Ana ".repeat(99)] {
            for max_width in [0, 1, 7, 60, 300] {
                let mask = texts.set(&name, SIZE, max_width);
                assert!(mask.width <= max_width as usize, "{}", mask.width);
            }
        }
        let whole = texts.set("Maximiliane", SIZE, WIDE);
        let cut = texts.set("Maximiliane", SIZE, 60);
        assert!(whole.width > 60 && cut.width > 40, "{}", cut.width);
    }

    #[test]
    fn the_language_of_the_environment_is_named_as_fallback_lists_name_it() {
        for (posix, expected) in [
            ("ja_JP.UTF-8", "ja"),
            ("zh_TW", "zh-TW"),
            ("de_DE@euro", "de"),
            ("C", "C"),
            ("", ""),
        ] {
            assert_eq!(language(posix), expected);
        }
    }

    #[test]
    fn control_characters_and_empty_texts_are_harmless() {
        let mut texts = Typesetter::new();
        let two_lines = texts.set("Ana\nMüller\r\n\u{2029}\0", SIZE, WIDE);
        assert_eq!(two_lines.height, Typesetter::line_height(SIZE) as usize);
        assert!(two_lines.width > texts.set("Ana", SIZE, WIDE).width);
        assert!(texts.set("", SIZE, WIDE).is_blank());
        assert!(texts.set("\u{202e}\u{2066}\u{200f}", SIZE, WIDE).width < 40);
        texts.set("x", 0, WIDE);
        texts.set("x", 1, WIDE);
    }

    #[test]
    fn the_cache_forgets_what_was_unused_for_longest() {
        let mut texts = Typesetter::new();
        for i in 0..MAX_ENTRIES * 2 {
            texts.set("kept", 9, WIDE);
            texts.set(&i.to_string(), 9, WIDE);
            assert!(texts.cache.entries.len() <= MAX_ENTRIES);
        }
        let layout = Layout {
            size: 9,
            max_width: WIDE,
        };
        assert!(texts.cache.get("kept", layout).is_some());
        assert!(texts.cache.get("0", layout).is_none());
        let bytes = texts.cache.entries.values().map(|e| e.mask.coverage.len());
        assert_eq!(bytes.sum::<usize>(), texts.cache.bytes);
    }

    #[test]
    fn the_cache_is_bounded_in_bytes_too() {
        let mut cache = Cache::default();
        for size in 0..40 {
            let mask = TextMask {
                width: 1,
                height: 1 << 20,
                coverage: vec![0; 1 << 20],
            };
            let layout = Layout { size, max_width: 1 };
            cache.insert("x", layout, Arc::new(mask));
            assert!(cache.bytes <= MAX_BYTES && cache.entries.len() <= 8);
        }
    }
}
