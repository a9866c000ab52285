//! Dates as RFC 3339 writes them, and nothing else. By hand: the parser of a date library makes this plugin
//! twice as large, and reads more than the RFC allows. In the tests that library is the judge.

/// The days before each month of a common year.
const DAYS_BEFORE: [u64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

/// The second since 1970 of a date-time (section 5.6), or of the start of a date in UTC. Parts of a second
/// are cut off: a key rather ends too early than too late. None for a date before 1970, and for anything else.
#[must_use]
pub fn unix_seconds(text: &str) -> Option<u64> {
    let (date, rest) = text.as_bytes().split_at_checked(10)?;
    let midnight = days(date)? * 86_400;
    if rest.is_empty() {
        return Some(midnight);
    }
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = rest else { return None };
    let hour = number(&[*h1, *h2]).filter(|hour| *hour < 24)?;
    let minute = number(&[*m1, *m2]).filter(|minute| *minute < 60)?;
    // A leap second has no number of its own.
    let second = number(&[*s1, *s2]).filter(|second| *second <= 60)?.min(59);
    let local = midnight + hour * 3600 + minute * 60 + second;
    match without_fraction(rest)? {
        [b'Z' | b'z'] => Some(local),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let hours = number(&[*h1, *h2]).filter(|hours| *hours < 24)?;
            let minutes = number(&[*m1, *m2]).filter(|minutes| *minutes < 60)?;
            let offset = hours * 3600 + minutes * 60;
            // East of Greenwich the clocks are ahead.
            if *sign == b'+' { local.checked_sub(offset) } else { Some(local + offset) }
        }
        _ => None,
    }
}

/// The days from 1970 to a date.
fn days(date: &[u8]) -> Option<u64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let years = number(&[*y1, *y2, *y3, *y4])?;
    let month = usize::try_from(number(&[*m1, *m2])?).ok()?;
    let day = number(&[*d1, *d2])?;
    let leap = years % 4 == 0 && (years % 100 != 0 || years % 400 == 0);
    let before = DAYS_BEFORE.get(month.checked_sub(1)?)?;
    let length = DAYS_BEFORE.get(month)? - before + u64::from(leap && month == 2);
    if day == 0 || day > length {
        return None;
    }
    let whole_years = 365 * years.checked_sub(1970)? + leap_years_before(years) - leap_years_before(1970);
    Some(whole_years + before + u64::from(leap && month > 2) + day - 1)
}

fn leap_years_before(year: u64) -> u64 {
    let last = year - 1;
    last / 4 - last / 100 + last / 400
}

fn without_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(fraction) = rest.strip_prefix(b".") else { return Some(rest) };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { None } else { fraction.get(digits..) }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    digits.iter().try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the library says, of a date-time or a date.
    fn oracle(text: &str) -> Option<u64> {
        let text = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
        u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_second()).ok()
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_day_before() {
        let mut date = jiff::civil::date(1970, 1, 1);
        for day in 0..146_097 {
            assert_eq!(unix_seconds(&date.to_string()), Some(day * 86_400), "{date}");
            date = date.tomorrow().unwrap();
        }
        assert_eq!(unix_seconds("1969-12-31"), None);
        assert_eq!(unix_seconds("0000-01-01"), None);
        assert_eq!(unix_seconds("9999-12-31T23:59:59Z"), Some(253_402_300_799));
    }

    #[test]
    fn a_leap_second_is_the_second_before() {
        assert_eq!(unix_seconds("2016-12-31T23:59:60Z"), unix_seconds("2016-12-31T23:59:59Z"));
        assert_eq!(unix_seconds("2016-12-31T23:59:61Z"), None);
    }

    #[test]
    fn an_offset_must_not_lead_before_1970() {
        assert_eq!(unix_seconds("1970-01-01T00:59:59+01:00"), None);
        assert_eq!(unix_seconds("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(unix_seconds("1970-01-01T00:00:00-00:00"), Some(0));
    }

    #[test]
    fn other_spellings_are_not_read() {
        for text in [
            "",
            "2027",
            "2027-1-1",
            "20270101",
            "20270101T0",
            "2027-01-00",
            "2027-00-01",
            "2027-13-01",
            "2027-02-29",
            "2100-02-29",
            "2027-01-01T",
            "2027-01-01Z",
            "2027-01-01T12Z",
            "2027-01-01T12:00Z",
            "2027-01-01T12:00:00",
            "2027-01-01T12:00:00+01",
            "2027-01-01T12:00:00+0100",
            "2027-01-01T12:00:00.Z",
            "2027-01-01T12:00:00,5Z",
            "2027-01-01T12:00:00Z ",
            " 2027-01-01",
            "2027-01-01T24:00:00Z",
            "2027-01-01T12:60:00Z",
            "2027-01-01T12:00:00+24:00",
            "2027-01-01T12:00:00+01:60",
            "2027-01-01T12:00:00+01:00[Europe/Berlin]",
            "2027-01-0١",
            "+2027-01-01",
        ] {
            assert_eq!(unix_seconds(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_date_time_is_read_as_the_library_reads_it(
            text in "(19[67]|20[0-9]|[2-8][0-9]{2})[0-9]-(0[0-9]|1[0-3])-([0-2][0-9]|3[0-2])\
                     ([Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?"
        ) {
            // 1969 is over everywhere, though west of Greenwich its last hours were seconds of 1970.
            let wanted = oracle(&text).filter(|_| !text.starts_with("196"));
            prop_assert_eq!(unix_seconds(&text), wanted, "{}", text);
        }

        #[test]
        fn what_is_read_is_what_the_library_reads(
            text in "20[0-9]{2}-?[01]?[0-9]-?[0-3]?[0-9][Tt ]?[0-9:]{0,8}[.,]?[0-9]{0,9}[Zz+-]?[0-9:]{0,5}"
        ) {
            if let Some(seconds) = unix_seconds(&text) {
                prop_assert_eq!(Some(seconds), oracle(&text), "{}", text);
            }
        }
    }
}
