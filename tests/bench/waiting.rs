//! How `mulkko serve` bears two thousand waiting clients: `make bench-serve`.
//!
//! Each client is a long poll on a connection of its own. A push is timed from its first byte to the arrival of the whole
//! document at each of them; the next follows when all have it, so that each must have seen all.
//!
//!     waiting target/release/mulkko FOLDER

#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark may stop at what cannot be")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const CLIENTS: usize = 2_000;
const PUSHES: u64 = 100;
const TOKEN: &str = "mulkko_of-the-benchmark";
/// Its SHA-256.
const HASH: &str = "a5bed791f134d57fc9bad22b14830018b1fe18dcad9015df59285cfdd42edd7b";

/// The server, which ends with this.
struct Server {
    process: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(program: &str, folder: &str) -> Server {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).expect("a folder");
        let tokens = format!("{folder}/tokens.json");
        let entry = format!(r#"[{{"name": "bench", "sha256": "{HASH}", "policies": ["*"]}}]"#);
        std::fs::write(&tokens, entry).expect("a file of tokens");
        let mut command = Command::new(program);
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--store",
            &format!("{folder}/store"),
            "--tokens",
            &tokens,
        ]);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server");
        let mut line = String::new();
        let log = process.stderr.take().expect("its log");
        let mut log = BufReader::new(log);
        while !line.contains("listening at ") {
            line.clear();
            assert!(log.read_line(&mut line).expect("a line") > 0, "the server ended");
        }
        std::thread::spawn(move || log.lines().for_each(drop));
        let (_, rest) = line.split_once("listening at ").expect("an address");
        let url = rest.split_whitespace().next().expect("an address").to_owned();
        Server { process, url }
    }

    /// A figure of the process, as the kernel has it, in kB.
    fn memory_kb(&self, name: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the figure");
        line.trim_start_matches(':')
            .split_whitespace()
            .next()
            .and_then(|it| it.parse().ok())
            .expect("a number")
    }
}

/// A policy of some `size` bytes.
fn document(revision: u64, size: usize) -> String {
    format!(r#"{{"name": "shop", "revision": {revision}, "metadata": {{"filler": "{}"}}}}"#, "x".repeat(size))
}

/// A proxy: waits for news, for ever.
async fn follow(client: Client, url: Arc<str>, node: usize, seen: UnboundedSender<(u64, Instant)>) {
    let (mut etag, mut revision) = (String::new(), 0_u64);
    loop {
        let request = client
            .get(&*url)
            .header("prefer", "wait=60")
            .header("if-none-match", &etag)
            .header("x-mulkko-node", format!("node-{node}"))
            .header("x-mulkko-revision", revision.to_string());
        // The server ends with its measurement; before that, whose answer does not come is missed.
        let Ok(answer) = request.send().await else { return };
        if answer.status() == 304 {
            continue;
        }
        let header =
            |name| answer.headers().get(name).and_then(|it| it.to_str().ok()).expect("a header").to_owned();
        etag = header("etag");
        revision = header("x-mulkko-revision").parse().expect("a revision");
        answer.bytes().await.expect("the document");
        if seen.send((revision, Instant::now())).is_err() {
            return;
        }
    }
}

async fn measure(program: &str, folder: &str, size: usize) {
    let server = Server::start(program, folder);
    let url: Arc<str> = format!("{}/v1/policies/shop", server.url).into();
    let pusher = Client::builder().http1_only().build().expect("a client");
    let push = async |revision: u64, precondition: &str| {
        let request =
            pusher.put(&*url).bearer_auth(TOKEN).header(precondition, "*").body(document(revision, size));
        assert_eq!(request.send().await.expect("an answer").status(), 201);
    };
    push(1, "if-none-match").await;
    let (seen, mut arrivals) = unbounded_channel();
    let client = Client::builder().http1_only().build().expect("a client");
    for node in 0..CLIENTS {
        tokio::spawn(follow(client.clone(), Arc::clone(&url), node, seen.clone()));
    }
    let mut took: Vec<Duration> = Vec::new();
    let mut all: Vec<Duration> = Vec::new();
    let idle_kb = {
        for _ in 0..CLIENTS {
            arrivals.recv().await.expect("an arrival");
        }
        server.memory_kb("VmRSS")
    };
    for revision in 2..PUSHES + 2 {
        // All wait again.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let started = Instant::now();
        push(revision, "if-match").await;
        let mut last = started;
        for _ in 0..CLIENTS {
            let arrival = tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await;
            let Ok(Some((found, at))) = arrival else { panic!("revision {revision} was missed") };
            assert_eq!(found, revision, "nothing is missed, nothing comes twice");
            took.push(at.duration_since(started));
            last = last.max(at);
        }
        all.push(last.duration_since(started));
    }
    let quantile = |times: &mut Vec<Duration>, of_1000: usize| {
        times.sort_unstable();
        times.get((times.len() - 1) * of_1000 / 1000).copied().unwrap_or_default().as_millis()
    };
    println!(
        "| {} kB | {} ms | {} ms | {} ms | {} MB | {} MB |",
        size / 1000,
        quantile(&mut took, 500),
        quantile(&mut took, 990),
        quantile(&mut all, 500),
        idle_kb / 1000,
        server.memory_kb("VmHWM") / 1000,
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, folder] = &arguments[..] else { panic!("expected the command and a folder") };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!("{CLIENTS} long-polling clients, {PUSHES} pushes, all of which came to all clients once\n");
    println!("| document | median | p99 | until all have it, median | memory, waiting | memory, most |");
    println!("|---|---|---|---|---|---|");
    for size in [1_000, 10_000, 100_000] {
        runtime.block_on(measure(program, folder, size));
    }
}
