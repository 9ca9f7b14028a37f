//! A server that speaks Redis' protocol and says what a test wants it to say. What Redis itself does is tried with Redis
//! itself elsewhere; here is what it does seldom.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a test wants to be answered; lines end with a line feed alone. Nothing: what [`usual`] says.
type Script = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Answered to nobody: the connection stays silent from then on.
pub(super) const SILENCE: &str = "";

/// No entries.
pub(super) const NONE: &str = "*1\n*2\n$1\ns\n*0\n";

/// A server of one test. It ends with it.
pub(super) struct Server {
    pub(super) port: u16,
    heard: watch::Sender<Vec<String>>,
    tasks: JoinSet<()>,
}

impl Server {
    /// A server that says what `script` says.
    pub(super) async fn start(
        script: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = watch::Sender::new(Vec::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::new(script), heard.clone()));
        Self { port, heard, tasks }
    }

    /// Its address.
    pub(super) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The commands so far that begin so.
    pub(super) fn heard(&self, beginning: &str) -> Vec<String> {
        let heard = self.heard.borrow();
        heard.iter().filter(|command| command.starts_with(beginning)).cloned().collect()
    }

    /// Waits for a command that begins so; answers all of it.
    pub(super) async fn wait_for(&self, beginning: &str) -> String {
        let mut heard = self.heard.subscribe();
        let is_meant = |command: &&String| command.starts_with(beginning);
        let waited =
            timeout(DEADLINE, heard.wait_for(|heard| heard.iter().any(|it| is_meant(&it))));
        let heard =
            waited.await.unwrap_or_else(|_| panic!("{beginning}: not in {:?}", self.heard("")));
        heard.unwrap().iter().find(is_meant).unwrap().clone()
    }

    /// Ends it, with its connections.
    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

/// What a server says that has a group `g` of the stream `s`, and nothing new.
pub(super) fn usual(command: &str) -> &'static str {
    let one_group = "*1\n*6\n$4\nname\n$1\ng\n$7\npending\n:0\n$17\nlast-delivered-id\n$3\n5-3\n";
    match command {
        command if command.starts_with("XINFO GROUPS") => one_group,
        command if command.starts_with("XINFO STREAM") => "*2\n$17\nlast-generated-id\n$3\n9-0\n",
        command if command.starts_with("XINFO CONSUMERS") => "*0\n",
        command if command.starts_with("XPENDING") => "*4\n:0\n$-1\n$-1\n*-1\n",
        command if command.starts_with("XREADGROUP") && command.ends_with('>') => SILENCE,
        command if command.starts_with("XREADGROUP") => NONE,
        command if command.starts_with("XACK") => ":1\n",
        _ => "+OK\n",
    }
}

/// Entries of the stream `s`, each with its names and values.
pub(super) fn entries(entries: &[(&str, &[&str])]) -> String {
    let bulk = |text: &&str| format!("${}\n{text}\n", text.len());
    let entry = |(id, fields): &(&str, &[&str])| {
        let fields: String = fields.iter().map(bulk).collect::<Vec<_>>().concat();
        format!("*2\n{}*{}\n{fields}", bulk(id), fields.matches('$').count())
    };
    let all: String = entries.iter().map(entry).collect::<Vec<_>>().concat();
    format!("*1\n*2\n$1\ns\n*{}\n{all}", entries.len())
}

async fn accept(listener: TcpListener, script: Arc<Script>, heard: watch::Sender<Vec<String>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&script), heard.clone()));
    }
}

async fn serve(stream: TcpStream, script: Arc<Script>, heard: watch::Sender<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    while let Some(command) = command(&mut stream).await {
        heard.send_modify(|heard| heard.push(command.clone()));
        let answer = script(&command).unwrap_or_else(|| usual(&command).to_owned());
        if answer == SILENCE {
            std::future::pending::<()>().await;
        }
        if stream.write_all(answer.replace('\n', "\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The words of a command.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let words = number(stream, '*').await?;
    let mut command = Vec::new();
    for _ in 0..words {
        let length = number(stream, '$').await?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        command.push(String::from_utf8_lossy(&word).trim_end().to_owned());
    }
    Some(command.join(" "))
}

async fn number(stream: &mut BufReader<TcpStream>, sign: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(sign)?.parse().ok()
}
