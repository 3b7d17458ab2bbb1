//! A store that speaks as S3 does, in memory: as much as a backup asks of one.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The objects, by `BUCKET/KEY`.
type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The store; it lives as long as the test program.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Where it listens.
    pub(crate) port: u16,
    objects: Objects,
}

impl Bucket {
    /// Starts one.
    pub(crate) fn start() -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let objects = Objects::default();
        let shared = Arc::clone(&objects);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let objects = Arc::clone(&shared);
                // A client that goes away ends its thread.
                std::thread::spawn(move || while answer(&stream, &objects).is_some() {});
            }
        });
        Bucket { port, objects }
    }

    /// What there is, by name.
    pub(crate) fn names(&self) -> Vec<String> {
        self.objects.lock().expect("no panic").keys().cloned().collect()
    }
}

/// One request and its answer. None: nobody asks any more.
fn answer(mut stream: &TcpStream, objects: &Objects) -> Option<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut len, mut is_create) = (0, false);
    loop {
        let mut header = String::new();
        input.read_line(&mut header).ok().filter(|bytes| *bytes > 0)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(text) = header.strip_prefix("content-length:") {
            len = text.trim().parse().ok()?;
        }
        is_create |= header.starts_with("if-none-match:");
    }
    let mut body = vec![0; len];
    input.read_exact(&mut body).ok()?;
    let (status, answer) = {
        let mut objects = objects.lock().expect("no panic");
        act(&mut objects, &method, &target, is_create, body)
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"x\"\r\n\
         last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer)).ok()
}

fn act(
    objects: &mut BTreeMap<String, Vec<u8>>,
    method: &str,
    target: &str,
    is_create: bool,
    body: Vec<u8>,
) -> (&'static str, Vec<u8>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let key = path.trim_matches('/').to_owned();
    match method {
        "PUT" if is_create && objects.contains_key(&key) => ("412 Precondition Failed", vec![]),
        "PUT" => {
            objects.insert(key, body);
            ("200 OK", vec![])
        }
        "GET" if query.contains("list-type=2") => ("200 OK", list(objects, &key, query)),
        "GET" => match objects.get(&key) {
            Some(bytes) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", vec![]),
        },
        "POST" => {
            let text = String::from_utf8_lossy(&body).into_owned();
            let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
            let gone = keys.map(|gone| {
                objects.remove(&format!("{key}/{gone}"));
                format!("<Deleted><Key>{gone}</Key></Deleted>")
            });
            let gone: String = gone.collect();
            ("200 OK", format!("<DeleteResult>{gone}</DeleteResult>").into_bytes())
        }
        "DELETE" => {
            objects.remove(&key);
            ("204 No Content", vec![])
        }
        _ => ("405 Method Not Allowed", vec![]),
    }
}

fn list(objects: &BTreeMap<String, Vec<u8>>, bucket: &str, query: &str) -> Vec<u8> {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or("");
    let prefix = format!("{bucket}/{}", prefix.replace("%2F", "/"));
    let found = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
    let contents = found.map(|(key, bytes)| {
        let key = key.strip_prefix(&format!("{bucket}/")).expect("of this bucket");
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"x\"</ETag><Size>{}</Size></Contents>",
            bytes.len()
        )
    });
    let contents: String = contents.collect();
    let text = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>{bucket}</Name><IsTruncated>false\
         </IsTruncated>{contents}</ListBucketResult>"
    );
    text.into_bytes()
}
