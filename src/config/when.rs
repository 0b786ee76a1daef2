//! Hours of the week, in the words that people use: `02:00-05:00`, `mon-fri 22:00-05:00, sat sun 00:00-24:00`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Weekday;
use jiff::{Span, ZonedDateTime};
use serde::{Deserialize, Serialize};

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const DAY: u16 = 24 * 60;

/// One or more windows of local time in each week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct When(Vec<Window>);

/// From one minute of a day to another, which may be of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// Monday is the lowest bit.
    days: u8,
    /// Minutes since midnight.
    from: u16,
    /// Minutes since midnight, above `from`; above 24 h where the window ends on the next day.
    until: u16,
}

/// Why a text names no hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no hours: {reason}; write such as \"02:00-05:00\" or \"mon-fri 22:00-05:00, sat sun 00:00-24:00\""
)]
pub struct WhenError {
    text: String,
    reason: String,
}

impl When {
    /// Whether it is open at this moment.
    pub fn is_open(&self, now: &ZonedDateTime) -> bool {
        let minute = now.hour() as u16 * 60 + now.minute() as u16;
        self.0.iter().any(|window| {
            let began_today = window.has(now.weekday()) && (window.from..window.until).contains(&minute);
            let yesterday = now.weekday().previous();
            began_today || window.has(yesterday) && minute + DAY < window.until
        })
    }

    /// When it opens next, after this moment; none where the calendar ends.
    pub fn opens(&self, now: &ZonedDateTime) -> Option<ZonedDateTime> {
        let starts = self.0.iter().flat_map(|window| {
            (0..=7).filter_map(|days| {
                let day = now.date().checked_add(Span::new().days(days)).ok()?;
                let time = jiff::civil::time((window.from / 60) as i8, (window.from % 60) as i8, 0, 0);
                // A time that a change of the clocks leaves out becomes the one after it.
                let start = day.to_datetime(time).to_zoned_datetime(now.time_zone().clone()).ok()?;
                (window.has(day.weekday()) && start > *now).then_some(start)
            })
        });
        starts.min()
    }
}

impl Window {
    fn has(self, day: Weekday) -> bool {
        self.days >> day.to_monday_zero_offset() & 1 == 1
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (days, hours) = text.rsplit_once(' ').unwrap_or(("", text));
        let days = days.split_whitespace().try_fold(0, |all, word| Ok::<_, String>(all | days_of(word)?))?;
        let (from, until) = hours.split_once('-').ok_or_else(|| format!("{hours:?} has no -"))?;
        let (from, until) = (minute_of(from)?, minute_of(until)?);
        if from == until || from == DAY {
            return Err(format!("{hours:?} has no length"));
        }
        let until = if until < from { until + DAY } else { until };
        Ok(Window { days: if days == 0 { 0x7f } else { days }, from, until })
    }
}

/// `mon`, or `mon-fri`, which may go over the end of the week.
fn days_of(word: &str) -> Result<u8, String> {
    let number = |name: &str| {
        let found = DAYS.iter().position(|(known, _)| name.eq_ignore_ascii_case(known));
        found.ok_or_else(|| format!("{name:?} is no day; mon, tue, wed, thu, fri, sat, sun"))
    };
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last) = (number(first)?, number(last)?);
    let length = (last + 7 - first) % 7;
    Ok((0..=length).fold(0, |days, step| days | 1 << ((first + step) % 7)))
}

fn minute_of(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is no time of the day; 00:00 to 24:00");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str| -> Result<u16, String> {
        let is_two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_two { digits.parse().map_err(|_| wrong()) } else { Err(wrong()) }
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let all = hour * 60 + minute;
    if minute < 60 && all <= DAY { Ok(all) } else { Err(wrong()) }
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        let windows = text.split(',').map(|window| Window::parse(window.trim()));
        match windows.collect() {
            Ok(windows) => Ok(When(windows)),
            Err(reason) => Err(WhenError { text: text.to_owned(), reason }),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, window) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            if window.days != 0x7f {
                for (name, day) in DAYS {
                    if window.has(day) {
                        write!(f, "{name} ")?;
                    }
                }
            }
            let until = if window.until > DAY { window.until - DAY } else { window.until };
            let (from, until) = ((window.from / 60, window.from % 60), (until / 60, until % 60));
            write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, until.0, until.1)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for When {
    type Error = WhenError;

    fn try_from(text: String) -> Result<Self, WhenError> {
        text.parse()
    }
}

impl From<When> for String {
    fn from(when: When) -> String {
        when.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> ZonedDateTime {
        text.parse().expect("a moment")
    }

    fn when(text: &str) -> When {
        text.parse().expect("hours")
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_to_its_last() {
        let night = when("02:00-05:00");
        for (moment, is_open) in [("01:59", false), ("02:00", true), ("04:59", true), ("05:00", false)] {
            let now = at(&format!("2026-11-25T{moment}:30[UTC]"));
            assert_eq!(night.is_open(&now), is_open, "{moment}");
        }
        assert_eq!(night.opens(&at("2026-11-25T02:00:00[UTC]")), Some(at("2026-11-26T02:00:00[UTC]")));
        assert!(when("00:00-24:00").is_open(&at("2026-11-25T23:59:59[UTC]")));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        // The 25th is a Wednesday.
        let nights = when("mon-wed 22:00-05:00");
        for (moment, is_open) in
            [("25T21:59", false), ("25T22:00", true), ("26T04:59", true), ("26T22:00", false)]
        {
            assert_eq!(nights.is_open(&at(&format!("2026-11-{moment}:00[UTC]"))), is_open, "{moment}");
        }
        // Over the end of the week.
        assert!(when("sun 22:00-05:00").is_open(&at("2026-11-30T01:00:00[UTC]")));
        assert_eq!(nights.opens(&at("2026-11-26T06:00:00[UTC]")), Some(at("2026-11-30T22:00:00[UTC]")));
    }

    #[test]
    fn an_hour_that_summer_time_leaves_out_opens_after_it() {
        let before = at("2026-03-29T00:00:00+01:00[Europe/Berlin]");
        assert_eq!(when("02:30-05:00").opens(&before), Some(at("2026-03-29T03:30:00+02:00[Europe/Berlin]")));
        assert!(when("02:30-05:00").is_open(&at("2026-03-29T03:00:00+02:00[Europe/Berlin]")));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (text, same) in [
            ("02:00-05:00", "02:00-05:00"),
            ("Mon-Wed 22:00-05:00, sun 10:00-24:00", "mon tue wed 22:00-05:00, sun 10:00-24:00"),
            ("fri-mon 00:00-24:00", "mon fri sat sun 00:00-24:00"),
        ] {
            assert_eq!(when(text).to_string(), same);
            assert_eq!(when(same), when(text));
        }
    }

    #[test]
    fn what_names_no_hours_is_refused_with_a_reason() {
        for text in [
            "",
            "night",
            "2-5",
            "02:00",
            "02:00-02:00",
            "25:00-26:00",
            "02:60-03:00",
            "24:00-05:00",
            "moon 02:00-03:00",
            "02:00-03:00,",
            "+2:00-03:00",
        ] {
            let error = text.parse::<When>().expect_err(text).to_string();
            assert!(error.contains("write such as"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_opens_is_open_and_was_not_a_minute_before_unless_it_was_open_all_along(
            from in 0..DAY, length in 1..DAY, days in 1u8..128, minute in 0i64..(8 * 1440)
        ) {
            let when = When(vec![Window { days, from, until: from + length }]);
            let now = at("2026-11-25T00:00:00[UTC]").checked_add(Span::new().minutes(minute)).expect("a moment");
            let opens = when.opens(&now).expect("a next time");
            prop_assert!(when.is_open(&opens) && opens > now);
            let closed = (1..).map(|minute| now.checked_add(Span::new().minutes(minute)).expect("a moment"));
            // Nothing opens in between.
            for moment in closed.take_while(|moment| *moment < opens).take(3000) {
                let before = moment.checked_sub(Span::new().minutes(1)).expect("a moment");
                prop_assert!(when.is_open(&before) || !when.is_open(&moment));
            }
        }
    }
}
