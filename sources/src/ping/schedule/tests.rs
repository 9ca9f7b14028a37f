//! Ticks of schedules: the grammar, the calendar, daylight saving, and what is refused.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::{MAX_COUNTED, Schedule, ScheduleError};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text, None).unwrap()
}

/// The next ticks after `after`.
fn ticks(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let mut last = at(after);
    let mut ticks = Vec::new();
    for _ in 0..count {
        last = schedule.next(last).unwrap();
        ticks.push(last.to_string());
    }
    ticks
}

fn refusal(text: &str) -> String {
    Schedule::parse(text, None).unwrap_err().to_string()
}

#[test]
fn five_fields_tick_by_the_minute_and_six_by_the_second() {
    let five = schedule("*/20 * * * *");
    assert_eq!(
        ticks(&five, "2025-01-01T10:15:30Z", 3),
        ["2025-01-01T10:20:00Z", "2025-01-01T10:40:00Z", "2025-01-01T11:00:00Z"]
    );
    let six = schedule("*/20 * * * * *");
    assert_eq!(
        ticks(&six, "2025-01-01T10:15:30.999Z", 2),
        ["2025-01-01T10:15:40Z", "2025-01-01T10:16:00Z"]
    );
}

#[test]
fn a_tick_is_after_the_time_asked_about() {
    let every_second = schedule("* * * * * *");
    assert_eq!(ticks(&every_second, "2025-01-01T00:00:00Z", 1), ["2025-01-01T00:00:01Z"]);
    assert_eq!(ticks(&every_second, "2025-01-01T00:00:00.5Z", 1), ["2025-01-01T00:00:01Z"]);
    assert_eq!(ticks(&every_second, "1969-12-31T23:59:57.5Z", 1), ["1969-12-31T23:59:58Z"]);
}

#[test]
fn lists_ranges_steps_and_names_combine() {
    let business = schedule("0,30 9-17/4 * jan-mar MON-fri");
    assert_eq!(
        ticks(&business, "2025-03-28T13:30:00Z", 3),
        ["2025-03-28T17:00:00Z", "2025-03-28T17:30:00Z", "2025-03-31T09:00:00Z"]
    );
    let gaps = schedule("0,,30, * * * *");
    assert_eq!(ticks(&gaps, "2025-01-01T00:00:00Z", 1), ["2025-01-01T00:30:00Z"]);
    let from_five = schedule("5/20 * * * *");
    assert_eq!(
        ticks(&from_five, "2025-01-01T00:00:00Z", 3),
        ["2025-01-01T00:05:00Z", "2025-01-01T00:25:00Z", "2025-01-01T00:45:00Z"]
    );
}

#[test]
fn day_of_month_and_day_of_week_are_either_where_both_are_given() {
    let either = schedule("0 0 13 * fri");
    assert_eq!(
        ticks(&either, "2025-01-01T00:00:00Z", 3),
        ["2025-01-03T00:00:00Z", "2025-01-10T00:00:00Z", "2025-01-13T00:00:00Z"]
    );
    for open in ["0 0 * * fri", "0 0 ? * fri", "0 0 */1 * fri", "0 0 1,* * fri"] {
        assert_eq!(
            ticks(&schedule(open), "2025-01-01T00:00:00Z", 2),
            ["2025-01-03T00:00:00Z", "2025-01-10T00:00:00Z"],
            "{open}"
        );
    }
}

#[test]
fn sunday_is_zero_and_seven_and_may_end_a_range() {
    for sunday in ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "@weekly"] {
        assert_eq!(ticks(&schedule(sunday), "2025-01-01T00:00:00Z", 1), ["2025-01-05T00:00:00Z"]);
    }
    assert_eq!(
        ticks(&schedule("0 0 * * sat-sun"), "2025-01-01T00:00:00Z", 3),
        ["2025-01-04T00:00:00Z", "2025-01-05T00:00:00Z", "2025-01-11T00:00:00Z"]
    );
}

#[test]
fn descriptors_stand_for_schedules() {
    let first = |text: &str| ticks(&schedule(text), "2025-01-01T00:00:00Z", 1).remove(0);
    assert_eq!(first("@yearly"), "2026-01-01T00:00:00Z");
    assert_eq!(first("@annually"), "2026-01-01T00:00:00Z");
    assert_eq!(first("@monthly"), "2025-02-01T00:00:00Z");
    assert_eq!(first("@daily"), "2025-01-02T00:00:00Z");
    assert_eq!(first("@midnight"), "2025-01-02T00:00:00Z");
    assert_eq!(first("@Hourly"), "2025-01-01T01:00:00Z");
}

#[test]
fn a_time_zone_is_a_prefix_or_a_field() {
    let noon = ["2025-01-01T11:00:00Z", "2025-01-02T11:00:00Z"];
    for prefixed in ["CRON_TZ=Europe/Zurich 0 12 * * *", " TZ=Europe/Zurich  0 12 * * * "] {
        assert_eq!(ticks(&schedule(prefixed), "2025-01-01T00:00:00Z", 2), noon);
    }
    let field = Schedule::parse("0 12 * * *", Some("Europe/Zurich")).unwrap();
    assert_eq!(ticks(&field, "2025-01-01T00:00:00Z", 2), noon);
    assert_eq!(field, schedule("CRON_TZ=Europe/Zurich 0 12 * * *"));
    assert_ne!(field, schedule("0 12 * * *"));
    let empty = Schedule::parse("0 12 * * *", Some("")).unwrap();
    assert_eq!(empty, schedule("CRON_TZ=UTC 0 12 * * *"));
}

#[test]
fn a_daily_tick_in_the_gap_comes_right_after_it() {
    // In Zurich 02:00 became 03:00 on 30 March 2025.
    let daily = schedule("CRON_TZ=Europe/Zurich 30 2 * * *");
    assert_eq!(
        ticks(&daily, "2025-03-28T12:00:00Z", 3),
        ["2025-03-29T01:30:00Z", "2025-03-30T01:00:00Z", "2025-03-31T00:30:00Z"]
    );
}

#[test]
fn a_daily_tick_in_the_repeated_hour_comes_once() {
    // In Zurich 03:00 became 02:00 on 26 October 2025.
    let daily = schedule("CRON_TZ=Europe/Zurich 30 2 * * *");
    assert_eq!(
        ticks(&daily, "2025-10-25T12:00:00Z", 2),
        ["2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"]
    );
}

#[test]
fn interval_ticks_follow_the_time_that_passes() {
    let hourly = schedule("CRON_TZ=Europe/Zurich @hourly");
    assert_eq!(
        ticks(&hourly, "2025-03-30T00:00:00Z", 2),
        ["2025-03-30T01:00:00Z", "2025-03-30T02:00:00Z"]
    );
    assert_eq!(
        ticks(&hourly, "2025-10-25T23:00:00Z", 4),
        [
            "2025-10-26T00:00:00Z",
            "2025-10-26T01:00:00Z",
            "2025-10-26T02:00:00Z",
            "2025-10-26T03:00:00Z"
        ]
    );
    let halves = schedule("CRON_TZ=America/New_York */30 * * * *");
    assert_eq!(
        ticks(&halves, "2025-11-02T05:00:00Z", 4),
        [
            "2025-11-02T05:30:00Z",
            "2025-11-02T06:00:00Z",
            "2025-11-02T06:30:00Z",
            "2025-11-02T07:00:00Z"
        ]
    );
}

#[test]
fn a_zone_that_shifts_by_half_an_hour_works() {
    // On Lord Howe Island 02:00 became 01:30 on 6 April 2025.
    let quarter = schedule("CRON_TZ=Australia/Lord_Howe */15 * * * *");
    let found = ticks(&quarter, "2025-04-05T14:00:00Z", 8);
    let expected: Vec<String> = (1..=8)
        .map(|n| (at("2025-04-05T14:00:00Z") + SignedDuration::from_mins(15 * n)).to_string())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_29th_of_february_comes_every_fourth_year() {
    assert_eq!(ticks(&schedule("0 0 29 2 *"), "2024-03-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
}

#[test]
fn refusals_name_what_is_wrong() {
    assert_eq!(
        refusal("* * * *"),
        "schedule: \"* * * *\" has 4 fields; there are five, or six with seconds first"
    );
    assert_eq!(
        refusal("0 25 * * *"),
        "schedule: \"25\" is not possible as hour: use numbers from 0 to 23, ranges (a-b), steps (/n) or *"
    );
    assert_eq!(
        refusal("CRON_TZ=Mars/Olympus * * * * *"),
        "schedule: \"Mars/Olympus\" is not the name of a time zone"
    );
    assert_eq!(
        Schedule::parse("* * * * *", Some("Mars/Olympus")).unwrap_err().to_string(),
        "timezone: \"Mars/Olympus\" is not the name of a time zone"
    );
    assert_eq!(refusal("0 0 30 2 *"), "schedule: \"0 0 30 2 *\" names a date that never comes");
    assert_eq!(
        refusal("@every 10s"),
        "schedule: unsupported descriptor @every; write */10 * * * * * for every 10 seconds"
    );
    let both = Schedule::parse("TZ=UTC * * * * *", Some("UTC"));
    assert!(matches!(both, Err(ScheduleError::Timezone(_))));
}

#[test]
fn what_is_no_schedule_is_refused() {
    let wrong = [
        "",
        " ",
        "@",
        "@reboot",
        "@every",
        "@every 10s",
        "* * * * * * *",
        ", * * * *",
        "60 * * * *",
        "-1 * * * *",
        "+1 * * * *",
        "5-1 * * * *",
        "1-2-3 * * * *",
        "*/0 * * * *",
        "*/x * * * *",
        "*/ * * * *",
        "1/2/3 * * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * L * *",
        "* * 5W * *",
        "* * * 13 *",
        "* * * mon *",
        "* * * * jan",
        "* * * * 8",
        "* * * * mon#2",
        "* * * * +1",
        "ä * * * *",
        "TZ=",
        "TZ= * * * * *",
        "CRON_TZ=UTC",
        "99999999999 * * * *",
    ];
    for text in wrong {
        let error = Schedule::parse(text, None).expect_err(text);
        assert!(!error.is_retryable());
    }
    assert!(refusal(&"*".repeat(2000)).contains("longer than"));
}

#[test]
fn missed_ticks_are_counted_up_to_a_limit() {
    let minutes = schedule("* * * * *");
    let missed = minutes.missed(at("2025-01-01T00:00:00Z"), at("2025-01-01T00:05:00Z")).unwrap();
    assert_eq!((missed.count, missed.more), (5, false));
    assert_eq!(missed.first, at("2025-01-01T00:01:00Z"));
    assert_eq!(missed.last, at("2025-01-01T00:05:00Z"));
    assert_eq!(minutes.missed(at("2025-01-01T00:00:00Z"), at("2025-01-01T00:00:59Z")), None);
    assert_eq!(minutes.missed(at("2025-01-01T00:00:00Z"), at("2024-01-01T00:00:00Z")), None);
    let seconds = schedule("* * * * * *");
    let many = seconds.missed(at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!((many.count, many.more), (MAX_COUNTED, true));
    assert_eq!(many.last, at("2026-01-01T00:00:00Z"));
}

proptest! {
    #[test]
    fn text_of_any_kind_does_no_harm(text in "[ -~]{0,40}") {
        if let Ok(schedule) = Schedule::parse(&text, None) {
            prop_assert!(schedule.next(Timestamp::UNIX_EPOCH).is_some());
        }
    }

    #[test]
    fn ticks_ascend_and_none_is_left_out(
        start in 0..4_000_000_000_i64,
        step in 2..40_u32,
        zone in proptest::sample::select(vec!["UTC", "Europe/Zurich", "America/St_Johns", "Australia/Lord_Howe"]),
    ) {
        // Compares with asking, second by second, whether the wall clock fits.
        let schedule = Schedule::parse(&format!("*/{step} * * * * *"), Some(zone)).unwrap();
        let zone = jiff::tz::TimeZone::get(zone).unwrap();
        let mut last = Timestamp::from_second(start).unwrap();
        for _ in 0..5 {
            let expected = (1..=60)
                .map(|n| last + SignedDuration::from_secs(n))
                .find(|tick| {
                    let second = tick.to_zoned(zone.clone()).second();
                    u32::try_from(second).unwrap() % step == 0
                })
                .unwrap();
            let next = schedule.next(last).unwrap();
            prop_assert_eq!(next, expected);
            last = next;
        }
    }
}
