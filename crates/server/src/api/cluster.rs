//! The Cluster service: who the members are, and changing them.
//!
//! What is asked is checked here for its form, and becomes one command of the log; what it may do
//! is judged by the leader and by the table of members (`quorate_replica::members`). A change may
//! be asked of any member. As in etcd:
//!
//! * `MemberAdd` answers as soon as the member has its seat, so that it can be started;
//! * `MemberRemove` and `MemberPromote` answer when the change has taken effect.
//!
//! Other than in etcd a newcomer never takes part in a quorum before it holds the log: until then
//! `MemberList` tells that it is a learner, whatever it is to be, and promoting it waits for that.
//!
//! A member that is to take the place of another is added by `MemberAdd` with the metadata
//! `quorate-replaces: ID`, in hexadecimal. The one step in which the two change places may be asked
//! for again, whatever became of the first question.

use super::errors::ApiError;
use super::header::Headers;
use crate::config::member_id;
use crate::handle::{Handle, Member};
use crate::identity::random;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::cluster_server;
use crate::url::Url;
use quorate_core::NodeId;
use quorate_replica::members::{
    Members, MembersCommand, MembersError, TEXT_BYTES_MAX, URLS_MAX, Wanted,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

/// Metadata of `MemberAdd`: whose place the new member takes.
pub const REPLACES: &str = "quorate-replaces";

/// Metadata of `MemberAdd`: `true` if the new member is to be a witness.
pub const WITNESS: &str = "quorate-witness";

/// Metadata of the answers of `MemberList`: `ID=URL` for each witness, the id in hexadecimal, with
/// commas between them. Absent if there are none. The list itself names no client URLs of
/// witnesses, as clients would ask there.
pub const WITNESSES: &str = "quorate-witnesses";

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    handle: Handle,
    headers: Headers,
}

impl Cluster {
    /// The service.
    pub(crate) fn new(handle: Handle) -> Cluster {
        let headers = Headers::of(&handle);
        Cluster { handle, headers }
    }

    async fn change(&self, command: MembersCommand) -> Result<Members, Status> {
        let answer = self.handle.change_members(&command).await.map_err(ApiError::from)?;
        answer.map_err(|why| ApiError::from(why).into())
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.headers.without_revision(self.handle.status().term))
    }

    /// All of the table; those who are leaving are no members any more.
    fn listed(&self, table: &Members) -> Vec<pb::Member> {
        let known = self.handle.members();
        let told = |id: NodeId| known.iter().find(|member| member.id == id.0).cloned();
        let stays = table.iter().filter(|(_, seat)| seat.wanted != Wanted::Gone);
        let each = stays.map(|(id, seat)| {
            let told = told(id).unwrap_or_else(|| Member {
                name: seat.name.clone(),
                is_learner: true,
                ..Member::default()
            });
            let peer_urls = seat.peer_urls.clone();
            member(Member { id: id.0, peer_urls, ..told })
        });
        each.collect()
    }

    /// The id of a new member: that of its addresses, and of a salt that was never used.
    fn new_id(&self, urls: &[Url]) -> Result<NodeId, Status> {
        let salt = random().map_err(|error| Status::internal(error.to_string()))?;
        Ok(NodeId(member_id(&format!("{:x}", self.handle.cluster_id()), urls, salt)))
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Cluster {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.handle.barrier().await.map_err(ApiError::from)?;
        }
        let members = self.handle.members().into_iter().map(member).collect();
        let listed = pb::MemberListResponse { header: self.header(), members };
        Ok(naming_witnesses(listed, &self.handle))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let urls = urls(&request.peer_ur_ls)?;
        let id = self.new_id(&urls)?;
        let peer_urls: Vec<String> = urls.iter().map(Url::to_string).collect();
        let wanted = if request.is_learner { Wanted::Learner } else { Wanted::Voter };
        let (old, witness) = (replaces(&metadata)?, is_witness(&metadata)?);
        if witness && (request.is_learner || old.is_some()) {
            return Err(Status::invalid_argument(format!(
                "metadata {WITNESS}: a witness votes, so it is no learner; and who takes the place \
                 of a member is what that one is"
            )));
        }
        let command = match old {
            Some(old) => MembersCommand::Replace { id, old, peer_urls: peer_urls.clone() },
            None => MembersCommand::Add { id, peer_urls: peer_urls.clone(), wanted, witness },
        };
        let table = self.change(command).await?;
        // Asked again, the first answer counts.
        let id = old.and_then(|old| table.replacement(old, &peer_urls)).unwrap_or(id);
        let members = self.listed(&table);
        let mut added = members.iter().find(|member| member.id == id.0).cloned();
        if let Some(added) = &mut added {
            // What it is to be; the list tells what it is.
            added.is_learner = table.get(id).is_some_and(|seat| seat.wanted == Wanted::Learner);
        }
        let header = self.header();
        Ok(Response::new(pb::MemberAddResponse { header, member: added, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let id = NodeId(request.into_inner().id);
        let table = self.change(MembersCommand::Remove { id }).await?;
        let members = self.listed(&table);
        Ok(Response::new(pb::MemberRemoveResponse { header: self.header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let request = request.into_inner();
        let id = NodeId(request.id);
        let peer_urls = urls(&request.peer_ur_ls)?.iter().map(Url::to_string).collect();
        let table = self.change(MembersCommand::Update { id, peer_urls }).await?;
        let members = self.listed(&table);
        Ok(Response::new(pb::MemberUpdateResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let id = NodeId(request.into_inner().id);
        let table = self.change(MembersCommand::Promote { id }).await?;
        let members = self.listed(&table);
        Ok(Response::new(pb::MemberPromoteResponse { header: self.header(), members }))
    }
}

/// The addresses of a member, each once and in order.
fn urls(texts: &[String]) -> Result<Vec<Url>, ApiError> {
    let fits = |text: &String| text.len() <= TEXT_BYTES_MAX;
    if texts.is_empty() || texts.len() > URLS_MAX || !texts.iter().all(fits) {
        return Err(ApiError::BadMemberUrls);
    }
    let parsed: Result<Vec<Url>, _> = texts.iter().map(|text| text.parse()).collect();
    let mut urls = parsed.map_err(|_| ApiError::BadMemberUrls)?;
    if urls.iter().any(|url| url.host().is_empty()) {
        return Err(ApiError::BadMemberUrls);
    }
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn text(metadata: &MetadataMap, key: &str) -> Result<Option<String>, Status> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| text.len() <= TEXT_BYTES_MAX);
    let text = text.ok_or_else(|| Status::invalid_argument(format!("metadata {key}: no text")))?;
    Ok(Some(text.to_owned()))
}

fn is_witness(metadata: &MetadataMap) -> Result<bool, Status> {
    match text(metadata, WITNESS)?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(Status::invalid_argument(format!(
            "metadata {WITNESS}: '{other}' is neither 'true' nor 'false'"
        ))),
    }
}

/// An answer that says in its metadata who keeps no store.
fn naming_witnesses<T>(answer: T, handle: &Handle) -> Response<T> {
    let mut response = Response::new(answer);
    let members = handle.members();
    let witnesses = members.iter().filter(|member| member.is_witness);
    let url = |member: &Member| member.client_urls.first().cloned().unwrap_or_default();
    let each: Vec<_> = witnesses.map(|member| format!("{:x}={}", member.id, url(member))).collect();
    if let (false, Ok(each)) = (each.is_empty(), each.join(",").parse()) {
        response.metadata_mut().insert(WITNESSES, each);
    }
    response
}

fn replaces(metadata: &MetadataMap) -> Result<Option<NodeId>, Status> {
    let Some(text) = text(metadata, REPLACES)? else { return Ok(None) };
    match u64::from_str_radix(&text, 16) {
        Ok(id) if id != 0 => Ok(Some(NodeId(id))),
        _ => Err(Status::invalid_argument(format!(
            "metadata {REPLACES}: '{text}' is no member id; write it in hexadecimal, as \
             'quorate member list' does"
        ))),
    }
}

fn member(member: Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: if member.is_witness { Vec::new() } else { member.client_urls },
        is_learner: member.is_learner,
    }
}

impl From<MembersError> for ApiError {
    fn from(error: MembersError) -> ApiError {
        match error {
            MembersError::NotFound => ApiError::MemberNotFound,
            MembersError::IdExists => ApiError::MemberExists,
            MembersError::PeerUrlExists => ApiError::PeerUrlExists,
            MembersError::NotALearner => ApiError::NotALearner,
            MembersError::LearnerNotReady => ApiError::LearnerNotReady,
            MembersError::TooManyLearners => ApiError::TooManyLearners,
            MembersError::NotEnoughStarted => ApiError::NotEnoughStartedMembers,
            MembersError::Unhealthy => ApiError::Unhealthy,
            MembersError::TooManyMembers => ApiError::TooManyMembers,
            MembersError::BeingReplaced => ApiError::BeingReplaced,
            MembersError::NotCapable => ApiError::NotCapable,
            MembersError::TooManyWitnesses => ApiError::TooManyWitnesses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_keeps_its_urls_apart() {
        let told = member(Member {
            id: 7,
            name: "a".to_owned(),
            peer_urls: vec!["http://a:2380".to_owned()],
            client_urls: vec!["http://a:2379".to_owned()],
            is_learner: true,
            is_witness: false,
        });
        assert_eq!((told.id, told.name.as_str(), told.is_learner), (7, "a", true));
        assert_eq!(told.peer_ur_ls, ["http://a:2380"]);
        assert_eq!(told.client_ur_ls, ["http://a:2379"]);
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        let ask = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            urls(&texts).map(|urls| urls.iter().map(Url::to_string).collect::<Vec<_>>())
        };
        for bad in [&[][..], &[""], &["a:1"], &["http://a"], &["ftp://a:1"], &["http://:1"]] {
            assert_eq!(ask(bad), Err(ApiError::BadMemberUrls), "{bad:?}");
        }
        let many = vec!["http://a:1"; URLS_MAX + 1];
        assert_eq!(ask(&many), Err(ApiError::BadMemberUrls));
        let long = format!("http://{}:1", "a".repeat(TEXT_BYTES_MAX));
        assert_eq!(ask(&[&long]), Err(ApiError::BadMemberUrls));
        let good = ask(&["http://b:1", "http://a:1", "http://b:1"]);
        assert_eq!(good, Ok(vec!["http://a:1".to_owned(), "http://b:1".to_owned()]));
    }

    #[test]
    fn whose_place_is_taken_is_told_in_hexadecimal() {
        let mut metadata = MetadataMap::new();
        assert_eq!(replaces(&metadata).expect("nothing is said"), None);
        metadata.insert(REPLACES, "ff".parse().expect("text"));
        assert_eq!(replaces(&metadata).expect("an id"), Some(NodeId(255)));
        for bad in ["", "0", "x", "11112222333344445"] {
            metadata.insert(REPLACES, bad.parse().expect("text"));
            let refused = replaces(&metadata).expect_err(bad);
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
    }
}
