//! The header that answers begin with.

use crate::handle::Handle;
use crate::proto::etcdserverpb::ResponseHeader;
use quorate_core::Term;
use quorate_replica::store::Revision;

/// What is the same in every header of one member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers {
    cluster_id: u64,
    member_id: u64,
}

impl Headers {
    /// Those of the member behind `handle`.
    pub(crate) fn of(handle: &Handle) -> Headers {
        Headers { cluster_id: handle.cluster_id(), member_id: handle.member_id() }
    }

    /// Those of the member with these ids.
    pub(crate) fn new(cluster_id: u64, member_id: u64) -> Headers {
        Headers { cluster_id, member_id }
    }

    /// Those of a member that does not exist.
    #[cfg(test)]
    pub(crate) fn test() -> Headers {
        Headers { cluster_id: 1, member_id: 2 }
    }

    /// The header of an answer from the store.
    pub(crate) fn at(&self, revision: Revision, term: Term) -> ResponseHeader {
        let revision = super::convert::signed(revision.0);
        ResponseHeader { revision, ..self.without_revision(term) }
    }

    /// The header of an answer in which the store had no part.
    pub(crate) fn without_revision(&self, term: Term) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: 0,
            raft_term: term.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Headers;
    use crate::proto::etcdserverpb::ResponseHeader;
    use quorate_core::Term;
    use quorate_replica::store::Revision;

    #[test]
    fn a_header_names_cluster_member_revision_and_term() {
        let headers = Headers { cluster_id: 1, member_id: 2 };
        let expected = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        assert_eq!(headers.at(Revision(3), Term(4)), expected);
        let expected = ResponseHeader { revision: 0, ..expected };
        assert_eq!(headers.without_revision(Term(4)), expected);
    }
}
