//! Letting requests in, and judging what they ask.
//!
//! Nothing is looked at while authentication is off. While it is on, what every request costs is
//! one look into the table of tokens; see `tokens.rs`.
//!
//! A member may be behind: it may not know yet of a login, a user, or a right. So whatever it would
//! refuse, it judges once more after it has caught up with the cluster; if it cannot catch up, the
//! refusal stands. After a restart it may even be behind of what it knew before; until that is made
//! up for, nothing is let in from what it has. What it *allows* from an old state is read from that
//! same state, or is written, and then judged again by all members when it is carried out.

use super::passwords::{Busy, PASSWORD_BYTES_MAX, Passwords};
use super::rules::{Rule, rule};
use super::tokens::Tokens;
use crate::api::{ApiError, ClientCertificate};
use crate::audit::{Entry, What};
use crate::handle::{Applied, Consistency, Handle};
use bytes::Bytes;
use hyper::Request;
use hyper::header::HeaderMap;
use hyper::http::Extensions;
use quorate_replica::store::{
    Asking, Auth, Caller, Command, Credential, Denied, Guard, KvError, Store,
};
use std::sync::Arc;

/// Metadata with a token, and its older name.
const TOKEN: [&str; 2] = ["token", "authorization"];

/// A command is judged by the state that carries it out. If users or roles change in between, it is
/// asked again as whoever the client is then, so often.
const ATTEMPTS: usize = 3;

/// Who asks, and where it is told what is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asker {
    /// As the gate has found out.
    pub(crate) credential: Credential,
    /// Where it is recorded, if it is.
    pub(crate) entry: Option<Arc<Entry>>,
}

impl Asker {
    /// From the extensions of a request that was let in.
    pub(crate) fn of(extensions: &Extensions) -> Asker {
        let credential = extensions.get::<Credential>().cloned().unwrap_or_default();
        Asker { credential, entry: extensions.get::<Arc<Entry>>().cloned() }
    }

    /// What is asked, if it is recorded.
    pub(crate) fn asks(&self, what: impl FnOnce() -> What) {
        if let Some(entry) = &self.entry {
            entry.asks(what);
        }
    }
}

/// What the certificate of a client is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Certificates {
    /// Its common name is a user, as in etcd with `--client-cert-auth`.
    StandForUsers,
    /// To be connected.
    LetIn,
}

/// Who lets requests in. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    handle: Handle,
    tokens: Arc<Tokens>,
    passwords: Arc<Passwords>,
    certificates: Certificates,
}

impl Gate {
    /// In front of one replica.
    pub(crate) fn new(
        handle: Handle,
        tokens: Arc<Tokens>,
        passwords: Arc<Passwords>,
        certificates: Certificates,
    ) -> Gate {
        Gate { handle, tokens, passwords, certificates }
    }

    /// Who asks, if the method is open to it. To be judged further by what the request contains.
    ///
    /// Errors: this member would refuse it, as far as it knows: see [`Gate::admit_anew`].
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Credential, Denied> {
        if self.handle.auth_is_behind() && rule(request.uri().path()) != Some(Rule::Open) {
            return Err(Denied::NoUser);
        }
        let Some(auth) = self.handle.auth_if_enabled() else { return Ok(Credential::Nobody) };
        let path = request.uri().path();
        self.judge_head(&auth, path, request.headers(), request.extensions())
    }

    /// As [`Gate::admit`] once this member has caught up with the cluster.
    ///
    /// Errors: it is refused.
    pub(crate) async fn admit_anew(
        &self,
        why: Denied,
        request: &Request<()>,
    ) -> Result<Credential, ApiError> {
        if let Err(refusal) = self.handle.barrier().await {
            // What is not known is no reason to send somebody away for good.
            let behind = self.handle.auth_is_behind();
            return Err(if behind { refusal.into() } else { why.into() });
        }
        let path = request.uri().path();
        let (headers, extensions) = (request.headers(), request.extensions());
        Ok(self.judge_head(&self.handle.auth(), path, headers, extensions)?)
    }

    fn judge_head(
        &self,
        auth: &Auth,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Credential, Denied> {
        // What nobody has thought of is refused rather than let through.
        let asking = match rule(path).unwrap_or(Rule::Root) {
            _ if !auth.is_enabled() => return Ok(Credential::Nobody),
            Rule::Open => return Ok(Credential::Nobody),
            Rule::User => Asking::AnyUser,
            Rule::Root => Asking::Root,
            // That a token is one is looked at here, so that services need not ask twice.
            Rule::Content => Asking::Anything,
        };
        let credential = self.credential(auth, headers, extensions)?;
        if let Some(entry) = extensions.get::<Arc<Entry>>() {
            entry.is_of(&credential);
        }
        let caller = auth.resolve(&credential)?;
        auth.may_ask(&caller, asking)?;
        Ok(credential)
    }

    /// A token counts before a certificate, as in etcd.
    fn credential(
        &self,
        auth: &Auth,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Credential, Denied> {
        if let Some(value) = TOKEN.iter().find_map(|name| headers.get(*name)) {
            let text = value.to_str().map_err(|_| Denied::BadToken)?;
            return self.tokens.read(text.strip_prefix("Bearer ").unwrap_or(text), auth);
        }
        if self.certificates == Certificates::LetIn {
            return Ok(Credential::Nobody);
        }
        let name = extensions.get().map_or("", ClientCertificate::common_name);
        let user = Bytes::copy_from_slice(name.as_bytes());
        Ok(if user.is_empty() { Credential::Nobody } else { Credential::Certified { user } })
    }

    /// Judges a read by the state that it reads.
    ///
    /// Errors: it is refused.
    pub(crate) fn judge_read(
        store: &Store,
        asker: &Asker,
        asking: Asking<'_>,
    ) -> Result<(), ApiError> {
        asker.asks(|| What::of_asking(&asking));
        if !store.auth().is_enabled() {
            return Ok(());
        }
        let caller = store.auth().resolve(&asker.credential)?;
        Ok(store.authorize(&caller, asking)?)
    }

    /// Who is to be named in the log, if what it asks has a chance there.
    ///
    /// Errors: it is refused by the present state of the cluster.
    async fn caller(
        &self,
        credential: &Credential,
        asking: Option<Asking<'_>>,
    ) -> Result<Caller, Denied> {
        let judge = |auth: &Auth| {
            let caller = auth.resolve(credential)?;
            auth.may_ask(&caller, asking.unwrap_or(Asking::Root)).map(|()| caller)
        };
        let Some(auth) = self.handle.auth_if_enabled() else { return Ok(Caller::Anonymous) };
        match judge(&auth) {
            Ok(caller) => Ok(caller),
            Err(why) if self.handle.barrier().await.is_err() => Err(why),
            Err(_) => judge(&self.handle.auth()),
        }
    }

    /// Replicates a command for a client. It is judged when it is carried out; what has no chance
    /// is refused before it takes room in the log.
    pub(crate) async fn write(
        &self,
        asker: &Asker,
        command: &Command,
    ) -> Result<Applied, ApiError> {
        self.write_guarded(asker, &Guard::default(), command).await
    }

    /// As [`Gate::write`], on these conditions.
    pub(crate) async fn write_guarded(
        &self,
        asker: &Asker,
        guard: &Guard,
        command: &Command,
    ) -> Result<Applied, ApiError> {
        asker.asks(|| What::of_command(command));
        let credential = &asker.credential;
        for attempt in 1.. {
            let caller = self.caller(credential, Asking::of(command)).await?;
            let applied = self.handle.write_guarded(&caller, guard, command).await?;
            // Refused by all members, so it has not happened and may be asked again.
            let overtaken = applied.outcome == Err(KvError::Denied(Denied::OldRevision));
            let again = overtaken && !matches!(credential, Credential::Signed { .. });
            if !again || attempt == ATTEMPTS {
                return Ok(applied);
            }
        }
        unreachable!("the last attempt is answered")
    }

    /// The hash of a new password.
    ///
    /// Errors: too much waits; the password is too long.
    pub(crate) async fn hash(&self, password: String) -> Result<Bytes, ApiError> {
        // The thread would say the same, later.
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(ApiError::PasswordTooLong);
        }
        let hash = self.passwords.hash(password).await?.ok_or(ApiError::PasswordTooLong)?;
        Ok(Bytes::from(hash))
    }

    /// A token for whoever knows the password.
    ///
    /// Errors: [`ApiError::AuthNotEnabled`], [`ApiError::AuthFailed`]; too much waits.
    pub(crate) async fn login(&self, user: &str, password: &str) -> Result<String, ApiError> {
        match self.try_login(user, password).await {
            Err(
                why @ (ApiError::AuthNotEnabled | ApiError::AuthFailed | ApiError::NoPasswordUser),
            ) => {
                // This member may be behind.
                let before = self.handle.auth();
                let fresh = self.handle.barrier().await.is_ok();
                if !fresh || before.judges_like(&self.handle.auth()) {
                    return Err(why);
                }
                self.try_login(user, password).await
            }
            answer => answer,
        }
    }

    async fn try_login(&self, user: &str, password: &str) -> Result<String, ApiError> {
        let auth = self.handle.auth();
        if !auth.is_enabled() {
            return Err(ApiError::AuthNotEnabled);
        }
        let found = auth.user(user.as_bytes()).ok_or(ApiError::AuthFailed)?;
        let hash = found.hash.clone().ok_or(ApiError::NoPasswordUser)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(ApiError::AuthFailed);
        }
        if !self.passwords.verify(user.as_bytes(), &hash, password.to_owned()).await? {
            return Err(ApiError::AuthFailed);
        }
        self.tokens.issue(user.as_bytes(), &auth).ok_or(ApiError::VerifyOnly)
    }

    /// A snapshot for a question about users and roles, judged by it.
    ///
    /// Errors: it is refused.
    pub(crate) async fn judged_snapshot(
        &self,
        asker: &Asker,
        asking: Asking<'_>,
    ) -> Result<crate::host::Snapshot, ApiError> {
        let snapshot = self.handle.snapshot(Consistency::Linearizable).await?;
        Gate::judge_read(&snapshot.store, asker, asking)?;
        Ok(snapshot)
    }
}

impl From<Busy> for ApiError {
    fn from(busy: Busy) -> ApiError {
        match busy {
            Busy::Queue => ApiError::TooManyRequests,
            Busy::Stopped => ApiError::Stopped,
        }
    }
}
