//! The Cluster service: who the members are.
//!
//! Changing the members of a running cluster is refused for now.

use super::errors::ApiError;
use super::header::Headers;
use crate::handle::{Handle, Member};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::cluster_server;
use tonic::{Request, Response, Status};

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
        let header = self.headers.without_revision(self.handle.status().term);
        let members = self.handle.members().into_iter().map(member).collect();
        Ok(Response::new(pb::MemberListResponse { header: Some(header), members }))
    }

    async fn member_add(
        &self,
        _: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(ApiError::MembershipFixed.into())
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(ApiError::MembershipFixed.into())
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(ApiError::MembershipFixed.into())
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(ApiError::MembershipFixed.into())
    }
}

fn member(member: Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::member;
    use crate::handle::Member;

    #[test]
    fn a_member_keeps_its_urls_apart() {
        let told = member(Member {
            id: 7,
            name: "a".to_owned(),
            peer_urls: vec!["http://a:2380".to_owned()],
            client_urls: vec!["http://a:2379".to_owned()],
            is_learner: true,
        });
        assert_eq!((told.id, told.name.as_str(), told.is_learner), (7, "a", true));
        assert_eq!(told.peer_ur_ls, ["http://a:2380"]);
        assert_eq!(told.client_ur_ls, ["http://a:2379"]);
    }
}
