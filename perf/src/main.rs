//! The `ringmain-perf` command.

use std::process::ExitCode;

use ringmain_perf::args::Args;
use ringmain_perf::scenarios::{self, SCENARIOS};
use ringmain_perf::{compare, curve, durable, hotsock, mastodon, push, report, sockudo, sys};

const HELP: &str = "\
usage: ringmain-perf SCENARIO --server \"PATH ARGS\" [options]
       ringmain-perf SCENARIO --server-pid PID --address ADDR:PORT [options]
       ringmain-perf compare --scenario SCENARIO [--ringmain PATH] [--with NAME=\"PATH ARGS\"]... [options]
       ringmain-perf curve --server \"PATH ARGS\" [options]
       ringmain-perf durable|storm|history|disk|hotsock|sockudo|mastodon|push --ringmain PATH [options]
";

const OPTIONS: &str = "
every scenario
  --json FILE         also write the figures as JSON
  --server-core N     core of the server it starts (0; none)      --core N   core of the generator (1; none)
  --nice N            nice value of both, their session's scheduling group included (0)
  --at-once N         connects on their way (64)
  --app, --key, --secret   the app to publish to (the development app)
fanout     --subscribers 1000 --size 128 --in-flight 1 --seconds 5 --warmup 1 [--count PUBLISHES]
latency    --subscribers 1000 --size 128 --rate 50 --publishers 64 --seconds 5 --warmup 1
channels   --channels 10000 --connections 10000 --count 1000000 --batch 10 --in-flight 16 --size 40
idle       --subscribers 19000 --seconds 5
connect    --connections 10000 --at-once 64
filters    --sockets 10000 --matches 1 --by uri|group --rate 100 --size 1024 --publishers 64 --idle 3 --seconds 5
compare    --rounds 3 --out perf/results --only NAME (repeatable)
durable    --cells 64x1,16x100 (in flight x events of each) --size 128 --channels 64 --seconds 3 --warmup 1
storm      --subscribers 1000 --rate 50 --storm-rate 1000 (0: each goes on when it is answered) --storm-publishers 64
history    --in-flight 16 --events 20000 --size 128
disk       --cells 128x400000,1024x150000 (size x events)
these four --rounds 5 --out perf/results --folder perf/target/durable (where the servers keep their data)
           --name NAME, --spin (a generator that never sleeps)
hotsock    --parts connect,subscribe,fanout,pages,schedules,latency --connections 2000 --subscribers 1000 --sizes 128,1024
           --in-flight 1 --rate 200 --schedules 100000 --idle 20 --seconds 3 (of each side)
           --rounds 5 --out perf/results --folder perf/target/hotsock --name NAME
sockudo    --parts fanout,filters,deltas,versions,annotations,publishes --subscribers 1000 --filters 1000 --sizes 128,1024
           --ticks 300 --seconds 3 (of each side) --rounds 5 --out perf/results --folder perf/target/sockudo --name NAME
mastodon   --parts lanes,user,public,connect,idle --subscribers 1000,4000 --accounts 1000 --connections 2000 --idle 8000
           --size 2800 --rate 0 (0: each goes on when everyone has it) --upstream COMMAND (of Mastodon's own)
           --only-upstream --floor COMMAND (of the least server) --seconds 3 (of each side) --rounds 5 --out perf/results --folder perf/target/mastodon --name NAME
push       --parts register,plan --routes log,sink --in-flight 1,64,256 (registrations) --devices 100000 --concurrency 64
           --subscribers 1000 --rate 50 --size 128 --seconds 3 (idle, before and after)
           --rounds 3 --out perf/results --folder perf/target/push --name NAME
curve      filters with --sockets N (repeatable), --matches M (repeatable), --rate-busy 2000, --rounds 3, --out perf/results
";

fn run(words: &[String]) -> Result<(), String> {
    let Some(name) =
        words.first().filter(|name| !matches!(name.as_str(), "-h" | "--help" | "help"))
    else {
        print!("{HELP}\nscenarios\n");
        for (name, what) in SCENARIOS {
            println!("  {name:<10} {what}");
        }
        for (name, what) in durable::PARTS {
            println!("  {name:<10} {what}");
        }
        println!("  {:<10} {}", "hotsock", hotsock::WHAT);
        println!("  {:<10} {}", "sockudo", sockudo::WHAT);
        println!("  {:<10} {}", "mastodon", mastodon::WHAT);
        println!("  {:<10} {}", "push", push::WHAT);
        print!("{OPTIONS}");
        return Ok(());
    };
    let args = Args::read(&words[1..])?;
    if name == "compare" {
        return compare::run(&args, &words[1..]);
    }
    if name == "curve" {
        return curve::run(&args, &words[1..]);
    }
    if durable::PARTS.iter().any(|(part, _)| part == name) {
        return durable::run(name, &args, &words[1..]);
    }
    if name == "hotsock" {
        return hotsock::run(&args, &words[1..]);
    }
    if name == "sockudo" {
        return sockudo::run(&args, &words[1..]);
    }
    if name == "mastodon" {
        return mastodon::run(&args, &words[1..]);
    }
    if name == "push" {
        return push::run(&args, &words[1..]);
    }
    let json = args.text("json");
    let report = scenarios::run(name, "", &args)?;
    print!("{}", report.table());
    if let Some(path) = json {
        let mut value = report.json();
        value["machine"] = report::machine();
        let text = serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?;
        std::fs::write(&path, text + "\n").map_err(|error| format!("--json {path}: {error}"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = run(&words);
    if words.iter().any(|word| word.starts_with("--nice")) {
        // The session lives on; it should not keep our priority.
        let _ = sys::nice(0);
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmain-perf: {error}");
            ExitCode::from(2)
        }
    }
}
