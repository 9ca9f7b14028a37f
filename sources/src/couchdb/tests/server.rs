//! An HTTP server that answers as a test tells it to, and remembers what it was asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// What was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A status and a whole body.
    Whole(u16, String),
    /// 200 and a body that goes on as long as its sender lives.
    Open(mpsc::Receiver<String>),
}

/// A server; dropping it closes it and its connections.
#[derive(Debug)]
pub(crate) struct Server {
    /// Host and port.
    pub(crate) address: String,
    asked: Arc<watch::Sender<Vec<Asked>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    /// Answers with what the function says.
    pub(crate) async fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(watch::Sender::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        let tasks = TaskTracker::new();
        let accepting = tasks.clone().spawn(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let connection = async move { drop(serve(stream, &seen, &*answer).await) };
                connections.push(AbortOnDropHandle::new(tasks.spawn(connection)));
            }
        });
        Self { address, asked, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// Waits until somebody asks for that.
    pub(crate) async fn wait_for(&self, matches: impl Fn(&Asked) -> bool) -> Asked {
        let mut asked = self.asked.subscribe();
        let seen = asked.wait_for(|asked| asked.iter().any(&matches)).await.unwrap();
        seen.iter().find(|asked| matches(asked)).unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    seen: &watch::Sender<Vec<Asked>>,
    answer: &(impl Fn(&Asked) -> Answer + Send + Sync),
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(asked) = read(&mut stream).await? else { return Ok(()) };
        let answer = answer(&asked);
        seen.send_modify(|seen| seen.push(asked));
        match answer {
            Answer::Whole(status, body) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(body.as_bytes()).await?;
            }
            Answer::Open(mut pieces) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                while let Some(piece) = pieces.recv().await {
                    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                    stream.write_all(chunk.as_bytes()).await?;
                }
                stream.write_all(b"0\r\n\r\n").await?;
            }
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut asked = Asked::default();
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    asked.method = words.next().unwrap_or_default();
    asked.target = words.next().unwrap_or_default();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = asked.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    asked.body = String::from_utf8(body).unwrap();
    Ok(Some(asked))
}
