//! Sizes as people write and read them.

/// Bytes of `512M`, `4G`, `4GiB`, `1048576`: powers of 1024.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("{unit:?} is no unit of size; K, M, G and T are")),
    };
    let number: u64 = number.parse().map_err(|_| "a size begins with a number, as in 512M or 4G".to_string())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than can be counted".to_string())
}

/// `36 GB`, `417 KB`: powers of 1000, three digits at most.
pub fn show(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit > 0 && value < 9.95 { 1 } else { 0 };
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("4G", 4 << 30), ("512M", 512 << 20), ("1k", 1024), ("7", 7), ("2TiB", 2 << 40), ("3MB", 3 << 20)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "4X", "4 G", "-1G", "99999999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        let shown = [0, 999, 1000, 9_949, 416_666, 999_499, 36_000_000_000].map(show);
        assert_eq!(shown, ["0 B", "999 B", "1.0 KB", "9.9 KB", "417 KB", "999 KB", "36 GB"]);
    }
}
