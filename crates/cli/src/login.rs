//! As whom a command asks: a name and a password, which are traded for a token.
//!
//! The password comes from `--password`, from what follows the colon in `--user`, from
//! `QUORATE_PASSWORD`, or is asked for; on a terminal it is not shown while it is typed. It is
//! neither printed nor logged, and flags can be seen by other users of the machine: so the variable
//! and the question are the better ways.

use crate::client::Channel;
use clap::Args;
use quorate_server::proto::etcdserverpb::AuthenticateRequest;
use quorate_server::proto::etcdserverpb::auth_client::AuthClient;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fmt;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;
use tonic::Status;
use tonic::codegen::http::HeaderValue;

/// The longest password that is read. Unit: bytes.
const PASSWORD_BYTES_MAX: u64 = 4_096;

/// What a server without authentication answers to a login.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// As whom.
#[derive(Args, Clone)]
pub(crate) struct LoginFlags {
    // Commands have arguments of these names of their own, which are not to be taken for them.
    /// Log in as this user; the password is asked for if it is not given [env: QUORATE_USER]
    #[arg(id = "login-user", long = "user", global = true, value_name = "NAME[:PASSWORD]")]
    user: Option<String>,
    /// The password, if NAME is alone [env: QUORATE_PASSWORD]
    #[arg(id = "login-password", long = "password", global = true, value_name = "PASSWORD")]
    password: Option<String>,
}

impl fmt::Debug for LoginFlags {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginFlags").finish_non_exhaustive()
    }
}

/// A name and a password.
pub(crate) struct Login {
    name: String,
    password: String,
}

impl fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why nobody can be logged in.
#[derive(Debug)]
pub(crate) enum LoginError {
    /// A password without a user.
    NoUser,
    /// The password could not be read.
    Input(io::Error),
    /// Two passwords that were to be the same are not.
    Differ,
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginError::NoUser => f.write_str("--password needs --user NAME"),
            LoginError::Input(error) => write!(f, "cannot read the password: {error}"),
            LoginError::Differ => {
                f.write_str("given passwords are different; nothing happened: type it again")
            }
        }
    }
}

impl LoginFlags {
    /// Who is meant. None if nobody was named.
    ///
    /// Errors: the password cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Login>, LoginError> {
        let user = self.user.clone().or_else(|| std::env::var("QUORATE_USER").ok());
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            return if self.password.is_some() { Err(LoginError::NoUser) } else { Ok(None) };
        };
        let given = self.password.clone().or_else(|| std::env::var("QUORATE_PASSWORD").ok());
        let (name, password) = match (user.split_once(':'), given) {
            (None, Some(password)) => (user, password),
            (Some((name, password)), _) => (name.to_owned(), password.to_owned()),
            (None, None) => {
                let password = ask("Password: ").map_err(LoginError::Input)?;
                (user, password)
            }
        };
        Ok(Some(Login { name, password }))
    }
}

impl Login {
    /// The user that `NAME:PASSWORD` names; the password is asked for if there is none.
    ///
    /// Errors: it cannot be read.
    pub(crate) fn of(text: &str) -> Result<Login, LoginError> {
        let (name, password) = match text.split_once(':') {
            Some((name, password)) => (name.to_owned(), password.to_owned()),
            None => (text.to_owned(), ask("Password: ").map_err(LoginError::Input)?),
        };
        Ok(Login { name, password })
    }

    /// Logs in over this connection: its requests carry the token from then on. A server without
    /// authentication wants none.
    ///
    /// Errors: what the server says, or that it could not be asked.
    pub(crate) async fn enter(&self, channel: &mut Channel) -> Result<(), Status> {
        let (name, password) = (self.name.clone(), self.password.clone());
        let request = AuthenticateRequest { name, password };
        let answer = match AuthClient::new(channel.clone()).authenticate(request).await {
            Err(status) if status.message() == NOT_ENABLED => return Ok(()),
            answer => answer?.into_inner(),
        };
        let token = HeaderValue::try_from(answer.token);
        let mut token = token.map_err(|_| Status::internal("the token is no header"))?;
        token.set_sensitive(true);
        channel.carry(token);
        Ok(())
    }
}

impl Login {
    /// Who.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// As [`Login::enter`], in bounded time.
    ///
    /// Errors: as there; and `DeadlineExceeded`.
    pub(crate) async fn enter_within(
        &self,
        timeout: Duration,
        channel: &mut Channel,
    ) -> Result<(), Status> {
        let late = |_| Err(Status::deadline_exceeded("no answer in time"));
        tokio::time::timeout(timeout, self.enter(channel)).await.unwrap_or_else(late)
    }
}

/// A new password: asked for twice on a terminal, read once otherwise.
///
/// Errors: it cannot be read, or is not the same twice.
pub(crate) fn new_password(user: &str) -> Result<String, LoginError> {
    let first = ask(&format!("Password of {user}: ")).map_err(LoginError::Input)?;
    if io::stdin().is_terminal() {
        let again = format!("Type password of {user} again for confirmation: ");
        if ask(&again).map_err(LoginError::Input)? != first {
            return Err(LoginError::Differ);
        }
    }
    Ok(first)
}

/// Reads a line, which a terminal does not show.
fn ask(question: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let shown = match stdin.is_terminal() {
        false => None,
        true => {
            let mut stderr = io::stderr();
            stderr.write_all(question.as_bytes())?;
            stderr.flush()?;
            let shown = tcgetattr(&stdin)?;
            let mut hidden = shown.clone();
            hidden.local_modes -= LocalModes::ECHO;
            tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
            Some(shown)
        }
    };
    let mut line = Vec::new();
    let limited = &mut io::Read::take(stdin.lock(), PASSWORD_BYTES_MAX);
    let read = limited.read_until(b'\n', &mut line);
    if let Some(shown) = shown {
        tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
        io::stderr().write_all(b"\n")?;
    }
    if read? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "standard input is at its end"));
    }
    let text = String::from_utf8(line).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(user: Option<&str>, password: Option<&str>) -> LoginFlags {
        LoginFlags { user: user.map(str::to_owned), password: password.map(str::to_owned) }
    }

    #[test]
    fn a_name_may_carry_its_password() {
        for (user, password, name, wanted) in [
            ("ann:secret", None, "ann", "secret"),
            ("ann", Some("secret"), "ann", "secret"),
            ("ann:a:b", None, "ann", "a:b"),
            ("ann:", None, "ann", ""),
        ] {
            let login = flags(Some(user), password).read().expect("good").expect("somebody");
            assert_eq!((&login.name[..], &login.password[..]), (name, wanted), "{user}");
            assert!(!format!("{login:?}").contains("secret"));
        }
        assert!(matches!(flags(None, Some("secret")).read(), Err(LoginError::NoUser)));
        assert!(flags(None, None).read().expect("good").is_none());
        assert!(!format!("{:?}", flags(Some("ann:secret"), None)).contains("secret"));
    }
}
