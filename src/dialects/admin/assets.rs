//! The console's files, as they stand in its folder: no build step, nothing from elsewhere.

/// Path below `/_/`, media type, text.
pub const ASSETS: &[(&str, &str, &str)] = &[
    ("", HTML, include_str!("console/index.html")),
    ("console.css", CSS, include_str!("console/console.css")),
    ("icon.svg", "image/svg+xml", include_str!("console/icon.svg")),
    ("theme.js", JS, include_str!("console/theme.js")),
    ("console.js", JS, include_str!("console/console.js")),
    ("api.js", JS, include_str!("console/api.js")),
    ("page.js", JS, include_str!("console/page.js")),
    ("metrics.js", JS, include_str!("console/metrics.js")),
    ("charts.js", JS, include_str!("console/charts.js")),
    ("plots.js", JS, include_str!("console/plots.js")),
    ("latency.js", JS, include_str!("console/latency.js")),
    ("panes.js", JS, include_str!("console/panes.js")),
    ("round.js", JS, include_str!("console/round.js")),
    ("channels.js", JS, include_str!("console/channels.js")),
    ("push.js", JS, include_str!("console/push.js")),
    ("inspector.js", JS, include_str!("console/inspector.js")),
    ("frames.js", JS, include_str!("console/frames.js")),
    ("endings.js", JS, include_str!("console/endings.js")),
    ("vendor/uPlot.esm.js", JS, include_str!("console/vendor/uPlot.esm.js")),
    ("vendor/uPlot.min.css", CSS, include_str!("console/vendor/uPlot.min.css")),
    ("vendor/uPlot.LICENSE", TEXT, include_str!("console/vendor/uPlot.LICENSE")),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
pub const JS: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dialects/admin/console");
        let names = |folder: &str, prefix: &str| -> BTreeSet<String> {
            let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
            let files = entries.filter(|it| it.path().is_file());
            files.map(|it| format!("{prefix}{}", it.file_name().to_string_lossy())).collect()
        };
        let mut expected = names(folder, "");
        expected.extend(names(&format!("{folder}/vendor"), "vendor/"));
        let served =
            ASSETS.iter().map(|(name, ..)| if name.is_empty() { "index.html" } else { name });
        assert_eq!(served.map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    }
}
