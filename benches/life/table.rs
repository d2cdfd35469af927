//! The table that all parts write into: a line a figure, printed as soon as it is known.

/// What a figure has to keep.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Its median.
    AtMost(f64),
    AtLeast(f64),
    /// Each single one of the figures.
    NeverAbove(f64),
}

pub struct Table {
    part: &'static str,
    kept: usize,
    missed: Vec<String>,
}

impl Table {
    pub fn begin() -> Table {
        println!("{:<62} {:>10} {:<8} {:<24} {:<12}", "", "median", "", "minimum .. maximum", "bound");
        Table { part: "", kept: 0, missed: Vec::new() }
    }

    /// The lines that follow belong to `name`.
    pub fn part(&mut self, name: &'static str) {
        self.part = name;
        println!("{name}");
    }

    /// A line without a figure.
    pub fn say(&self, what: &str) {
        println!("  {what}");
    }

    pub fn row(&mut self, what: &str, unit: &str, figures: Vec<f64>) {
        self.line(what, unit, figures, None);
    }

    pub fn bounded(&mut self, what: &str, unit: &str, figures: Vec<f64>, bound: Bound) {
        self.line(what, unit, figures, Some(bound));
    }

    fn line(&mut self, what: &str, unit: &str, mut figures: Vec<f64>, bound: Option<Bound>) {
        figures.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (figures.first(), figures.last()) else {
            return println!("  {what:<60} {:>10}", "none");
        };
        assert!(least.is_finite() && most.is_finite(), "{what}: {figures:?}");
        let median = figures[figures.len() / 2];
        let spread = match figures.len() {
            1 => String::new(),
            _ => format!("({} .. {})", show(*least), show(*most)),
        };
        let (rule, kept) = match bound {
            None => (String::new(), None),
            Some(Bound::AtMost(b)) => (format!("<= {}", show(b)), Some(median <= b)),
            Some(Bound::AtLeast(b)) => (format!(">= {}", show(b)), Some(median >= b)),
            Some(Bound::NeverAbove(b)) => (format!("all <= {}", show(b)), Some(*most <= b)),
        };
        let verdict = match kept {
            None => "",
            Some(true) => "kept",
            Some(false) => "MISSED",
        };
        println!("  {what:<60} {:>10} {unit:<8} {spread:<24} {rule:<12} {verdict}", show(median));
        self.kept += usize::from(kept == Some(true));
        if kept == Some(false) {
            self.missed.push(format!("{}: {what}", self.part));
        }
    }

    pub fn end(self) {
        println!("{} bounds kept, {} missed", self.kept, self.missed.len());
        self.missed.iter().for_each(|missed| println!("  MISSED {missed}"));
    }
}

/// Three digits that count, at least.
fn show(figure: f64) -> String {
    match figure.abs() {
        f if f >= 100.0 || f == f.trunc() => format!("{figure:.0}"),
        f if f >= 10.0 => format!("{figure:.1}"),
        f if f >= 0.01 => format!("{figure:.3}"),
        _ => format!("{figure:.5}"),
    }
}
