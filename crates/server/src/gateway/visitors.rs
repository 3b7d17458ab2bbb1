//! Browsers: pages of which origins may use the gateway, and under which names of a host.
//!
//! A page could write with the reach of whoever looks at it, and what it sends needs no permission
//! of ours first. So pages of other origins are refused unless their origin was named. And a page
//! whose own name was made to lead to a member (DNS rebinding, CVE-2018-5702) is of the same origin
//! by the rules of browsers: only the name tells it, so names can be restricted as well.
//!
//! Sources: WHATWG, "Fetch", section 3.2 (CORS); etcd `pkg/cors` and `--host-whitelist`.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Request, Response, StatusCode};
use tonic::body::Body;

/// What stands for every origin, and for every host.
const ANY: &str = "*";

/// Whose pages may use the gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitors {
    /// Origins beside that of the member itself.
    origins: Vec<String>,
    /// Names of hosts; empty: all.
    hosts: Vec<String>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum From<'a> {
    /// From no page, or from one of this member.
    Here,
    /// From a page of an origin that was named.
    Named(&'a HeaderValue),
    /// From another page.
    Stranger,
}

impl Visitors {
    /// Pages of these origins, and of all hosts or of these.
    pub(crate) fn new(origins: &[String], hosts: &[String]) -> Visitors {
        let hosts = if hosts.iter().any(|host| host == ANY) { &[] } else { hosts };
        Visitors { origins: origins.to_vec(), hosts: hosts.to_vec() }
    }

    /// Where a request comes from.
    pub(super) fn from<'a>(&self, headers: &'a HeaderMap, authority: Option<&str>) -> From<'a> {
        let Some(origin) = headers.get(ORIGIN) else { return From::Here };
        if is_of(origin, host(headers, authority)) {
            return From::Here;
        }
        let named = |known: &String| known == ANY || known.as_bytes() == origin.as_bytes();
        if self.origins.iter().any(named) { From::Named(origin) } else { From::Stranger }
    }

    /// True if a request may come under the name of the host that it says.
    pub(crate) fn knows_host<B>(&self, request: &Request<B>) -> bool {
        if self.hosts.is_empty() {
            return true;
        }
        let authority = request.uri().authority().map(|authority| authority.as_str());
        let name = host(request.headers(), authority).map(without_port);
        name.is_some_and(|name| self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name)))
    }
}

/// Whether a page of this origin is of this host. Without a host of its own ("null") it is
/// nobody's.
fn is_of(origin: &HeaderValue, host: Option<&str>) -> bool {
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    from.is_some_and(|(_, from)| Some(from) == host)
}

fn host<'a>(headers: &'a HeaderMap, authority: Option<&'a str>) -> Option<&'a str> {
    headers.get(HOST).and_then(|host| host.to_str().ok()).or(authority)
}

/// `a:1` -> `a`, `[::1]:1` -> `::1`.
fn without_port(host: &str) -> &str {
    if let Some((inner, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return inner;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// The answer to a browser that asks whether it may ask.
pub(super) fn preflight(origin: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    welcome(origin, response.headers_mut());
    response
}

/// Tells a browser that its page may read this answer.
pub(super) fn welcome(origin: &HeaderValue, headers: &mut HeaderMap) {
    let fixed = HeaderValue::from_static;
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, fixed("POST, OPTIONS"));
    let allowed = "accept, content-type, authorization";
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, fixed(allowed));
    headers.insert(VARY, fixed("origin"));
}

/// The answer to who asks for a host that is not known.
pub(crate) fn misdirected() -> Response<Body> {
    super::plain(
        StatusCode::MISDIRECTED_REQUEST,
        "quorate: this member is not known by the name in the Host header; add it to \
         --host-whitelist, or ask by a name that is in it\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &'static str, origin: &'static str) -> HeaderMap {
        let value = HeaderValue::from_static;
        HeaderMap::from_iter([(HOST, value(host)), (ORIGIN, value(origin))])
    }

    #[test]
    fn a_page_is_of_here_named_or_a_stranger() {
        let text = |text: &str| vec![text.to_owned()];
        let closed = Visitors::default();
        let open = Visitors::new(&text("https://ui.example"), &[]);
        let any = Visitors::new(&text("*"), &[]);
        let own = headers("m1:2379", "http://m1:2379");
        let ui = headers("m1:2379", "https://ui.example");
        let null = headers("m1:2379", "null");
        assert_eq!(closed.from(&own, None), From::Here);
        assert_eq!(closed.from(&HeaderMap::new(), None), From::Here);
        assert_eq!(closed.from(&ui, None), From::Stranger);
        assert_eq!(open.from(&ui, None), From::Named(&ui[ORIGIN]));
        assert_eq!(open.from(&null, None), From::Stranger);
        let other = headers("m1:2379", "http://ui.example");
        assert_eq!(open.from(&other, None), From::Stranger, "another scheme");
        assert_eq!(any.from(&null, None), From::Named(&null[ORIGIN]));
    }

    #[test]
    fn hosts_are_known_by_name_whatever_the_port() {
        let hosts = ["m1.example".to_owned(), "::1".to_owned()];
        let visitors = Visitors::new(&[], &hosts);
        let knows = |visitors: &Visitors, host: &'static str| {
            let mut request = Request::new(());
            request.headers_mut().insert(HOST, HeaderValue::from_static(host));
            visitors.knows_host(&request)
        };
        for host in ["m1.example", "M1.example:2379", "[::1]:2379"] {
            assert!(knows(&visitors, host), "{host}");
        }
        for host in ["evil.example:2379", "m1.example.evil", "127.0.0.1:2379", ""] {
            assert!(!knows(&visitors, host), "{host}");
            assert!(knows(&Visitors::default(), host), "{host}");
            assert!(knows(&Visitors::new(&[], &["*".to_owned()]), host), "{host}");
        }
        assert!(!visitors.knows_host(&Request::new(())), "no name at all");
    }
}
