//! Servers on loopback that answer as they are told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A server that does with each connection what `serve` says.
pub(crate) async fn server<F, T>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    at
}

/// The head of a request.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0_u8; 1];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap_or(0) == 1 {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A server that answers every request with these bytes and closes.
pub(crate) async fn fixed(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Arc<Vec<u8>> = Arc::new(answer.into());
    server(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

/// A good answer with this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A server that gives each of these answers once, in order, then none; and tells what it was asked, head and body.
pub(crate) async fn scripted(answers: Vec<String>) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let at = server(move |mut stream| {
        let (tell, answers) = (tell.clone(), Arc::clone(&answers));
        async move {
            let head = head(&mut stream).await;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let mut body = vec![0_u8; length.unwrap_or(0)];
            let _ = stream.read_exact(&mut body).await;
            let _ = tell.send(head + &String::from_utf8_lossy(&body));
            let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).next();
            let _ = stream.write_all(answer.unwrap_or_default().as_bytes()).await;
        }
    })
    .await;
    (at, told)
}
