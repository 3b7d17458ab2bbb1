//! The Lock service: one holder at a time, the others in a line; see [`super::queue`].
//!
//! A lock is held as long as its key exists, and the key's create revision is a fencing token.
//! `Unlock` deletes the key, if it is one of a lock: a key with another name, or under another
//! lease than the one in its name, is refused, where etcd's servers delete whatever is named. To
//! unlock what is not locked is no error, as there.

use super::conditions::{self, Takes};
use super::dispatch::requires_leader;
use super::errors::ApiError;
use super::queue::{Candidate, Queue, equal, one};
use crate::auth::Asker;
use crate::handle::Consistency;
use crate::proto::etcdserverpb::ResponseHeader;
use crate::proto::v3lockpb as pb;
use crate::proto::v3lockpb::lock_server;
use bytes::Bytes;
use quorate_replica::store::line;
use quorate_replica::store::{
    Asking, Command, DeleteRange, Guard, Op, Operand, Outcome, Range, Txn,
};
use tonic::{Request, Response, Status};

/// What etcd's client says when the lease of a waiter has ended.
const EXPIRED: &str = "mutex: session is expired";

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    queue: Queue,
}

impl Lock {
    /// The service.
    pub(super) fn new(queue: Queue) -> Lock {
        Lock { queue }
    }

    /// Deletes the key if it hangs on this lease.
    async fn release(
        &self,
        (asker, guard): (&Asker, &Guard),
        key: &Bytes,
        lease: i64,
    ) -> Result<ResponseHeader, Status> {
        let keys = one(key);
        let delete = DeleteRange { keys: keys.clone(), prev_kv: false };
        let command = Command::Txn(Txn {
            compare: vec![equal(key, Operand::Lease(lease))],
            success: vec![Op::DeleteRange(delete)],
            failure: vec![Op::Range(Range { keys, count_only: true, ..Range::default() })],
        });
        let (header, outcome) = self.queue.write_guarded(asker, guard, &command).await?;
        let Outcome::Txn { outcomes, .. } = outcome else {
            panic!("a transaction was answered with {outcome:?}")
        };
        match outcomes.first() {
            Some(Outcome::Range(found)) if found.count > 0 => Err(no_lock(key)),
            _ => Ok(header),
        }
    }

    /// A key whose name is none of a lock: it must not be there.
    async fn is_free(&self, asker: &Asker, key: &Bytes) -> Result<ResponseHeader, Status> {
        let delete = DeleteRange { keys: one(key), prev_kv: false };
        let snapshot = self.queue.handle.snapshot(Consistency::Linearizable).await;
        let snapshot = snapshot.map_err(ApiError::from)?;
        let asking = Asking::DeleteRange(&delete);
        crate::auth::Gate::judge_read(&snapshot.store, asker, asking)?;
        match snapshot.store.get(key) {
            Some(_) => Err(no_lock(key)),
            None => Ok(self.queue.headers.at(snapshot.store.revision(), snapshot.term)),
        }
    }
}

fn no_lock(key: &Bytes) -> Status {
    let key = String::from_utf8_lossy(key);
    Status::failed_precondition(format!(
        "quorate: {key:?} is not the key of a lock, which is named NAME/LEASE and hangs on that \
         lease; delete other keys with DeleteRange"
    ))
}

#[tonic::async_trait]
impl lock_server::Lock for Lock {
    async fn lock(
        &self,
        request: Request<pb::LockRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        let requires_leader = requires_leader(request.metadata().as_ref());
        let (_, extensions, pb::LockRequest { name, lease }) = request.into_parts();
        let asker = Asker::of(&extensions);
        let (value, expired) = (None, EXPIRED);
        let candidate = Candidate { name, lease, value, requires_leader, asker, expired };
        let served = self.queue.stand(candidate).await?;
        Ok(Response::new(pb::LockResponse { header: Some(served.header), key: served.key }))
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let (metadata, extensions, pb::UnlockRequest { key }) = request.into_parts();
        let guard = conditions::read(&metadata, Takes::Fences)?;
        let asker = Asker::of(&extensions);
        if key.is_empty() {
            return Err(ApiError::EmptyKey.into());
        }
        let header = match line::parts_of(&key) {
            Some((_, lease)) => self.release((&asker, &guard), &key, lease).await?,
            None => self.is_free(&asker, &key).await?,
        };
        Ok(Response::new(pb::UnlockResponse { header: Some(header) }))
    }
}
