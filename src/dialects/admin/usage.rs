//! How much of what there is is used: memory, and of each app its connections. Source: Sockudo's `/usage` and `/stats`,
//! whose dashboards look for these members; memory is in bytes, as they mean it.

use crate::auth::Apps;
use crate::base::time::UnixMillis;
use crate::observe::{Gauge, Metrics, Process, stats};
use crate::wire::json;

/// `{"memory":{…}}` and what of it the process has.
pub(super) fn usage(process: &Process, apps: &Apps) -> Vec<u8> {
    let mut out = b"{".to_vec();
    memory(process, &mut out);
    of_apps(apps, &mut out);
    out.push(b'}');
    out
}

/// The statistics of the process and its shards, with memory, totals and apps as Sockudo's readers find them.
pub(super) fn statistics(
    metrics: &Metrics,
    process: &Process,
    apps: &Apps,
    at: UnixMillis,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 * 1024);
    stats::write(metrics, process, at, &mut out);
    while out.pop().is_some_and(|byte| byte != b'}') {}
    out.push(b',');
    memory(process, &mut out);
    let of = |gauge| metrics.total_gauge(gauge);
    out.extend_from_slice(
        format!(
            ",\"totals\":{{\"apps\":{},\"connections\":{},\"occupancy\":{{\"channels\":{},\"subscriptions\":{},\
             \"presence_members\":{}}}}}",
            apps.iter().count(),
            apps.iter().map(|app| u64::from(app.connections())).sum::<u64>(),
            of(Gauge::Channels),
            of(Gauge::Subscriptions),
            of(Gauge::Members),
        )
        .as_bytes(),
    );
    of_apps(apps, &mut out);
    out.push(b'}');
    out
}

fn memory(process: &Process, out: &mut Vec<u8>) {
    let &Process { memory_bytes: total, memory_available_bytes: free, resident_bytes, .. } =
        process;
    let used = total.saturating_sub(free);
    let percent = if total > 0 { used as f64 * 100.0 / total as f64 } else { 0.0 };
    let text = format!(
        "\"memory\":{{\"free\":{free},\"used\":{used},\"total\":{total},\"percent\":{percent:.2},\
         \"resident\":{resident_bytes}}}"
    );
    out.extend_from_slice(text.as_bytes());
}

fn of_apps(apps: &Apps, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"apps\":[");
    for (i, app) in apps.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"app_id\":" } else { b"{\"app_id\":" });
        json::write_str(out, &app.settings.id);
        let max = match app.settings.connections_max {
            0 => "null".to_owned(),
            max => max.to_string(),
        };
        let text = format!(",\"connections\":{},\"connections_max\":{max}}}", app.connections());
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_used_is_json_in_bytes() {
        let mut config = Config::development();
        config.apps[0].connections_max = 7;
        let apps = Apps::new(&config.apps);
        let process =
            Process { memory_bytes: 4 << 30, memory_available_bytes: 1 << 30, ..Process::read() };
        let usage: Value = serde_json::from_slice(&usage(&process, &apps)).unwrap();
        assert_eq!(usage["memory"]["total"], 4_u64 << 30);
        assert_eq!(usage["memory"]["used"], 3_u64 << 30);
        assert_eq!(usage["memory"]["percent"], 75.0);
        assert_eq!(usage["apps"][0]["connections_max"], 7);
        let metrics = Metrics::new(1, &["a"]);
        let all = statistics(&metrics, &process, &apps, UnixMillis(0));
        let all: Value = serde_json::from_slice(&all).unwrap();
        assert_eq!(all["totals"]["apps"], 1);
        assert_eq!(all["memory"], usage["memory"]);
        assert!(all["shards"].is_array() && all["total"].is_object());
    }
}
