use std::collections::HashSet;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::tls::Clients;

/// What a server does once it has read a request.
#[derive(Clone, Copy)]
enum Then {
    Keep,
    Close,
}

/// Answers every request with `answer`; tells each request's connection, by its number.
async fn server(answer: &'static str, then: Then) -> (String, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path?query", listener.local_addr().unwrap());
    let (seen, requests) = mpsc::channel(64);
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        let mut number = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tasks.spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                    if !request.ends_with(b"\r\n\r\nbody") {
                        continue;
                    }
                    assert!(request.starts_with(b"POST /path?query HTTP/1.1\r\nhost: 127.0.0.1:"));
                    request.clear();
                    seen.try_send(number).unwrap();
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if matches!(then, Then::Close) {
                        return;
                    }
                }
            });
            number += 1;
        }
    });
    (url, requests)
}

fn client() -> HttpClient {
    Clients::new().trusting(None).unwrap()
}

async fn post(client: &HttpClient, url: &str) -> Response<AnswerBody> {
    post_body(client, url, Bytes::from_static(b"body")).await
}

async fn post_body(client: &HttpClient, url: &str, body: Bytes) -> Response<AnswerBody> {
    let to = Destination::new(&url.parse().unwrap(), &[]).unwrap();
    client.send(&to, &to.message(|_| body)).await.unwrap()
}

async fn read(response: Response<AnswerBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Numbers of the connections that took the requests.
fn numbers(requests: &mut mpsc::Receiver<usize>) -> Vec<usize> {
    std::iter::from_fn(|| requests.try_recv().ok()).collect()
}

const EMPTY: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
const LETTERS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_is_read() {
    for answer in [EMPTY, LETTERS] {
        let (url, mut requests) = server(answer, Then::Keep).await;
        let client = client();
        for _ in 0..3 {
            let whole = read(post(&client, &url).await).await;
            assert!(answer.as_bytes().ends_with(&whole));
        }
        assert_eq!(numbers(&mut requests), [0, 0, 0]);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_to_its_end_costs_the_connection() {
    let unended = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc";
    let (url, mut requests) = server(unended, Then::Keep).await;
    let client = client();
    drop(post(&client, &url).await);
    drop(post(&client, &url).await);
    assert_eq!(numbers(&mut requests), [0, 1]);
}

#[tokio::test]
async fn a_request_that_meets_a_closed_connection_goes_over_another() {
    let (url, mut requests) = server(LETTERS, Then::Close).await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(read(post(&client, &url).await).await, "abc");
    }
    assert_eq!(numbers(&mut requests), [0, 1, 2]);
}

#[tokio::test]
async fn answers_that_are_awaited_together_come_over_connections_of_their_own() {
    let (url, mut requests) = server(LETTERS, Then::Keep).await;
    let client = client();
    let both = tokio::join!(post(&client, &url), post(&client, &url));
    assert_eq!((read(both.0).await, read(both.1).await), ("abc".into(), "abc".into()));
    let taken: HashSet<usize> = numbers(&mut requests).into_iter().collect();
    assert_eq!(taken.len(), 2);
}

#[tokio::test]
async fn nobody_looks_after_a_pool_that_is_empty_again() {
    let (url, _requests) = server(LETTERS, Then::Close).await;
    let client = client();
    read(post(&client, &url).await).await;
    client.0.tasks.close();
    let deadline = Duration::from_secs(30);
    timeout(deadline, client.0.tasks.wait()).await.expect("the sweep ends");
    assert!(client.0.idle.lock().by_host.is_empty());
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_is_written_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = client();
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut start = [0; 16];
        stream.read_exact(&mut start).await.unwrap();
        let refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig";
        stream.write_all(refusal).await.unwrap();
        stream
    };
    // More than the buffers of both sides hold.
    let body = Bytes::from(vec![b'x'; 64 << 20]);
    let (response, _stream) = tokio::join!(post_body(&client, &url, body), answered);
    assert_eq!((response.status().as_u16(), read(response).await), (413, "big".into()));
    assert!(client.0.idle.lock().by_host.is_empty());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let unended = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc";
    let (url, _requests) = server(unended, Then::Close).await;
    let error = post(&client(), &url).await.into_body().collect().await.unwrap_err();
    assert!(matches!(error, ExchangeError::Closed), "{error}");
}

#[test]
fn an_address_that_is_not_absolute_is_refused() {
    let error = Destination::new(&Uri::from_static("/path"), &[]).err().unwrap();
    assert_eq!(error, TargetError::Url("/path".to_owned()));
}
