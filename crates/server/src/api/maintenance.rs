//! The Maintenance service: what operators ask of one member.

use super::alarm::{self, Plan};
use super::errors::ApiError;
use super::header::Headers;
use super::snapshot::{self, Pieces};
use super::{ETCD_CLUSTER_VERSION, ETCD_VERSION, convert};
use crate::auth::{Asker, Gate};
use crate::guarantees;
use crate::handle::{Consistency, Handle, Status as MemberStatus};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::proto::etcdserverpb::maintenance_server;
use quorate_core::NodeId;
use quorate_replica::store::{Command, KvError, Outcome, Revision, Store};

use std::time::Duration;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Maintenance {
    handle: Handle,
    headers: Headers,
    gate: Gate,
    snapshots: snapshot::Desk,
}

impl Maintenance {
    /// The service.
    pub(crate) fn new(handle: Handle, gate: Gate) -> Maintenance {
        let headers = Headers::of(&handle);
        Maintenance { handle, headers, gate, snapshots: snapshot::Desk::new() }
    }

    async fn on_alarms(
        &self,
        asker: &Asker,
        request: &pb::AlarmRequest,
    ) -> Result<pb::AlarmResponse, ApiError> {
        let action = match alarm::plan(request)? {
            Plan::List(kind) => {
                let snapshot = self.handle.snapshot(Consistency::Linearizable).await?;
                let header = self.headers.at(snapshot.store.revision(), snapshot.term);
                return Ok(alarm::response(header, alarm::listed(&snapshot.store, kind)));
            }
            Plan::Nothing => return Ok(alarm::response(self.header(), [])),
            Plan::Write(action) => action,
        };
        let applied = self.gate.write(asker, &Command::Alarm(action)).await?;
        let header = self.headers.at(applied.revision, applied.term);
        let outcome = applied.outcome?;
        let Outcome::Alarms(alarms) = outcome else { panic!("alarms answered with {outcome:?}") };
        Ok(alarm::response(header, alarms))
    }

    fn header(&self) -> pb::ResponseHeader {
        let status = self.handle.status();
        self.headers.at(status.revision, status.term)
    }
}

#[tonic::async_trait]
impl maintenance_server::Maintenance for Maintenance {
    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.handle.status();
        let header = self.headers.at(status.revision, status.term);
        let read_only = self.handle.assumptions().read_only_for();
        Ok(Response::new(status_response(header, status, read_only)))
    }

    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let asker = Asker::of(request.extensions());
        Ok(Response::new(self.on_alarms(&asker, request.get_ref()).await?))
    }

    /// Space is reclaimed as it becomes free, so there is nothing to wait for.
    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        tracing::info!("asked to defragment: nothing to do, freed space is reused by itself");
        Ok(Response::new(pb::DefragmentResponse { header: Some(self.header()) }))
    }

    /// Of everything that this member ever applied and of what it now holds.
    async fn hash(
        &self,
        _: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let snapshot = self.handle.snapshot(Consistency::Serializable).await;
        let snapshot = snapshot.map_err(ApiError::from)?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let hashing = spawn_blocking(move || {
            let store = &snapshot.store;
            store.hash_kv(Revision(0)).map(|hash| folded(hash ^ store.digest()))
        });
        let hash = hashing.await.expect("a read does not panic").map_err(ApiError::from)?;
        Ok(Response::new(pb::HashResponse { header, hash }))
    }

    /// Of this member's own state, so that the answers of two members can be compared.
    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let wanted = convert::revision(request.into_inner().revision);
        let snapshot = self.handle.snapshot(Consistency::Serializable).await;
        let snapshot = snapshot.map_err(ApiError::from)?;
        let header = self.headers.at(snapshot.store.revision(), snapshot.term);
        // Every pair is visited, which would hold up the requests of other clients.
        let hashing = spawn_blocking(move || hash_kv(&snapshot.store, wanted));
        let answer = hashing.await.expect("a read does not panic").map_err(ApiError::from)?;
        Ok(Response::new(pb::HashKvResponse { header: Some(header), ..answer }))
    }

    type SnapshotStream = Pieces;

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Pieces>, Status> {
        let snapshot = self.handle.snapshot(Consistency::Serializable).await;
        let snapshot = snapshot.map_err(ApiError::from)?;
        Ok(Response::new(self.snapshots.begin(snapshot, &self.headers).await?))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let target = request.into_inner().target_id;
        if target == 0 {
            // No member has this id: on the wire it means "nobody".
            return Err(ApiError::BadLeaderTransferee.into());
        }
        self.handle.move_leader(NodeId(target)).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::MoveLeaderResponse { header: Some(self.header()) }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        may_downgrade(&request.into_inner())?;
        let version = ETCD_CLUSTER_VERSION.to_owned();
        Ok(Response::new(pb::DowngradeResponse { header: Some(self.header()), version }))
    }
}

/// Whether a request about downgrades has etcd's blessing. Data of ours cannot be read by another
/// etcd, so none is ever begun; whether a version would be the right one is answered as there.
fn may_downgrade(request: &pb::DowngradeRequest) -> Result<(), Status> {
    let action = DowngradeAction::try_from(request.action)
        .map_err(|_| Status::unknown("etcdserver: unknown method"))?;
    if action == DowngradeAction::Cancel {
        return Err(ApiError::NoDowngrade.into());
    }
    let parts: Vec<Option<u64>> =
        request.version.split('.').map(|part| part.parse().ok()).collect();
    match (&parts[..], action) {
        ([Some(3), Some(4), Some(_)], DowngradeAction::Validate) => Ok(()),
        ([Some(3), Some(4), Some(_)], _) => Err(ApiError::NotCapable.into()),
        ([Some(_), Some(_), Some(_)], _) => Err(ApiError::InvalidDowngradeVersion.into()),
        _ => Err(ApiError::BadDowngradeVersion.into()),
    }
}

/// Both halves count; the wire has room for one.
fn folded(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// At the compact revision itself the history is not whole any more, and etcd refuses it as well.
fn hash_kv(store: &Store, wanted: Revision) -> Result<pb::HashKvResponse, KvError> {
    let compact_revision = store.compact_revision();
    if wanted > Revision(0) && wanted <= compact_revision {
        return Err(KvError::Compacted { compact_revision });
    }
    let hash = store.hash_kv(wanted)?;
    let hashed = if wanted == Revision(0) { store.revision() } else { wanted };
    Ok(pb::HashKvResponse {
        header: None,
        hash: folded(hash),
        compact_revision: convert::signed(compact_revision.0),
        hash_revision: convert::signed(hashed.0),
    })
}

fn status_response(
    header: pb::ResponseHeader,
    status: MemberStatus,
    read_only: Option<Duration>,
) -> pb::StatusResponse {
    let mut errors = alarm::errors(&status.alarms);
    errors.extend(status.errors);
    if status.leader.is_none() {
        // Where etcd's tools look for it.
        errors.push(ApiError::NoLeader.code_and_text().1.to_owned());
    }
    errors.extend(read_only.map(guarantees::read_only));
    pb::StatusResponse {
        header: Some(header),
        version: ETCD_VERSION.to_owned(),
        db_size: convert::signed(status.db_size),
        leader: status.leader.map_or(0, |leader| leader.0),
        raft_index: status.commit_index,
        raft_term: status.term.0,
        raft_applied_index: status.applied_index,
        errors,
        db_size_in_use: convert::signed(status.db_size_in_use),
        is_learner: status.is_learner,
        // These belong to the API of 3.6; older clients do not look at them.
        storage_version: ETCD_CLUSTER_VERSION.to_owned(),
        db_size_quota: convert::signed(status.db_size_quota),
        downgrade_info: Some(pb::DowngradeInfo { enabled: false, target_version: String::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::{hash_kv, may_downgrade, status_response};
    use crate::handle::Status;
    use crate::proto::etcdserverpb::{DowngradeRequest, ResponseHeader};
    use bytes::Bytes;
    use quorate_core::{NodeId, Term};
    use quorate_replica::AppliedCommands;
    use quorate_replica::store::{Alarm, AlarmKind, Command, KvError, Put, Revision, Store};
    use std::time::Duration;

    fn status() -> Status {
        Status {
            leader: Some(NodeId(8)),
            term: Term(3),
            commit_index: 21,
            applied_index: 20,
            revision: Revision(5),
            db_size: 4096,
            db_size_in_use: 1024,
            db_size_quota: 8192,
            is_learner: true,
            applied_commands: AppliedCommands { puts: 1, deletes: 2, txns: 3 },
            alarms: vec![Alarm { kind: AlarmKind::NoSpace, member: 77 }],
            errors: vec!["disk is slow".to_owned()],
            ..Status::default()
        }
    }

    #[test]
    fn every_field_of_the_status_is_told() {
        let told = status_response(ResponseHeader::default(), status(), None);
        assert_eq!(told.version, "3.5.17");
        assert_eq!((told.db_size, told.db_size_in_use), (4096, 1024));
        assert_eq!((told.leader, told.raft_term), (8, 3));
        assert_eq!((told.raft_index, told.raft_applied_index), (21, 20));
        assert!(told.is_learner);
        assert_eq!((told.db_size_quota, &told.storage_version[..]), (8192, "3.5.0"));
        assert!(told.downgrade_info.is_some_and(|info| !info.enabled));
        assert_eq!(told.errors, ["memberID:77 alarm:NOSPACE ", "disk is slow"]);
    }

    #[test]
    fn the_hash_is_that_of_the_wanted_revision() {
        let store = |keys: &[&'static str]| {
            let mut store = Store::new();
            for key in keys {
                let key = Bytes::from_static(key.as_bytes());
                store.apply(&Command::Put(Put { key, ..Put::default() }));
            }
            store
        };
        let (short, long) = (store(&["a", "b"]), store(&["a", "b", "c"]));
        let latest = hash_kv(&short, Revision(0)).expect("readable");
        assert_eq!((latest.hash_revision, latest.compact_revision), (3, 0));
        let before = hash_kv(&long, Revision(3)).expect("readable");
        assert_eq!(before, latest, "members at different revisions agree on a common one");
        let after = hash_kv(&long, Revision(0)).expect("readable");
        assert_ne!(after.hash, latest.hash);
        let future = KvError::FutureRevision { current: Revision(3) };
        assert_eq!(hash_kv(&short, Revision(9)), Err(future));
        let mut compacted = long;
        compacted.apply(&Command::Compact { revision: Revision(3) });
        let refusal = KvError::Compacted { compact_revision: Revision(3) };
        assert_eq!(hash_kv(&compacted, Revision(3)), Err(refusal), "as by etcd");
        assert_eq!(hash_kv(&compacted, Revision(4)).map(|hash| hash.compact_revision), Ok(3));
    }

    #[test]
    fn a_downgrade_is_judged_as_by_etcd_and_never_begun() {
        let judged = |action, version: &str| {
            let request = DowngradeRequest { action, version: version.to_owned() };
            let refused = may_downgrade(&request).err();
            refused.map(|status| status.message().to_owned()).unwrap_or_default()
        };
        let invalid = "etcdserver: invalid downgrade target version";
        let malformed = "etcdserver: wrong downgrade target version format";
        for (action, version, told) in [
            (0, "3.4.0", ""),
            (0, "3.5.0", invalid),
            (0, "3.3.0", invalid),
            (0, "3.4", malformed),
            (0, "x", malformed),
            (1, "x", malformed),
            (1, "3.3.0", invalid),
            (1, "3.4.0", "etcdserver: not capable"),
            (2, "", "etcdserver: no inflight downgrade job"),
            (9, "", "etcdserver: unknown method"),
        ] {
            assert_eq!(judged(action, version), told, "{action} {version}");
        }
    }

    #[test]
    fn a_missing_leader_is_an_error_of_the_status() {
        let status = Status { leader: None, alarms: Vec::new(), ..status() };
        let read_only = Some(Duration::from_millis(2_345));
        let told = status_response(ResponseHeader::default(), status, read_only);
        assert_eq!(told.leader, 0);
        let errors = ["disk is slow", "etcdserver: no leader", "read-only for 2.4 s: no quorum"];
        assert_eq!(told.errors, errors);
    }
}
