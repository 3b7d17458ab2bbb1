//! The table of members: what each change does, what is refused, and that a leader who follows it
//! comes to rest.

use super::*;
use bytes::Bytes;

const AT: Index = Index(9);

fn urls(number: u64) -> Vec<String> {
    vec![format!("http://m{number}:2380")]
}

fn three() -> (Members, Configuration) {
    let seats = (1..=3).map(|number| (NodeId(number), Seat::of(urls(number))));
    (Members::of(seats), Configuration::of((1..=3).map(NodeId)))
}

fn add(id: u64, wanted: Wanted) -> MembersCommand {
    MembersCommand::Add { id: NodeId(id), peer_urls: urls(id), wanted, witness: false }
}

fn replace(id: u64, old: u64) -> MembersCommand {
    let (id, old) = (NodeId(id), NodeId(old));
    MembersCommand::Replace { id, old, peer_urls: urls(id.0) }
}

/// Steps of a leader that finds everybody ready, until nothing more is wanted.
fn settled(members: &mut Members, mut present: Configuration) -> Configuration {
    for step in 0.. {
        assert!(step < 5, "it does not come to rest: {members:?}");
        let (incoming, learners) = members.target(&present, |_| true);
        let next = Configuration { incoming, learners, ..Configuration::default() };
        let rests = next == present;
        present = next;
        members.settle(&present, AT);
        if rests {
            break;
        }
    }
    present
}

fn ids(of: &[u64]) -> BTreeSet<NodeId> {
    of.iter().copied().map(NodeId).collect()
}

#[test]
fn a_newcomer_listens_until_it_is_ready() {
    let (mut members, present) = three();
    members.apply(&add(4, Wanted::Voter), &present, AT).expect("a new member");
    let (voters, learners) = members.target(&present, |_| true);
    assert_eq!((voters, learners.clone()), (ids(&[1, 2, 3]), ids(&[4])));
    let present = Configuration { learners, ..present };
    assert_eq!(members.target(&present, |_| false), (ids(&[1, 2, 3]), ids(&[4])));
    assert_eq!(members.target(&present, |_| true), (ids(&[1, 2, 3, 4]), ids(&[])));
}

#[test]
fn a_learner_stays_one_until_it_is_promoted() {
    let (mut members, present) = three();
    members.apply(&add(4, Wanted::Learner), &present, AT).expect("a new member");
    let present = settled(&mut members, present);
    assert_eq!((&present.incoming, &present.learners), (&ids(&[1, 2, 3]), &ids(&[4])));
    let promote = MembersCommand::Promote { id: NodeId(4) };
    assert_eq!(members.apply(&promote, &present, AT), Ok(()));
    assert_eq!(settled(&mut members, present).incoming, ids(&[1, 2, 3, 4]));
    let (mut members, present) = three();
    let promote = |id| MembersCommand::Promote { id: NodeId(id) };
    assert_eq!(members.apply(&promote(1), &present, AT), Err(MembersError::NotALearner));
    assert_eq!(members.apply(&promote(9), &present, AT), Err(MembersError::NotFound));
}

#[test]
fn a_replacement_is_one_step_and_may_be_asked_again() {
    let (mut members, present) = three();
    members.apply(&replace(5, 2), &present, AT).expect("a replacement");
    let second = members.apply(&replace(6, 2), &present, AT);
    assert_eq!(second, Err(MembersError::BeingReplaced), "by one with other addresses");
    let again = MembersCommand::Replace { id: NodeId(77), old: NodeId(2), peer_urls: urls(5) };
    assert_eq!(members.apply(&again, &present, AT), Ok(()));
    assert_eq!(members.get(NodeId(77)), None);
    let present = Configuration { learners: ids(&[5]), ..present };
    assert_eq!(members.target(&present, |_| false).0, ids(&[1, 2, 3]), "2 votes until then");
    assert_eq!(members.target(&present, |_| true), (ids(&[1, 3, 5]), ids(&[])));
    let present = settled(&mut members, present);
    assert_eq!(present.incoming, ids(&[1, 3, 5]));
    assert!(members.was_removed(NodeId(2)) && members.get(NodeId(2)).is_none());
    assert_eq!(members.apply(&again, &present, AT), Ok(()), "asked again when it is done");
    assert_eq!(settled(&mut members, present).incoming, ids(&[1, 3, 5]));
}

#[test]
fn a_replacement_may_have_the_address_of_the_one_that_it_replaces() {
    let (mut members, present) = three();
    let (id, old) = (NodeId(5), NodeId(2));
    let at_the_same_place = MembersCommand::Replace { id, old, peer_urls: urls(2) };
    assert_eq!(members.apply(&at_the_same_place, &present, AT), Ok(()));
    let taken = MembersCommand::Replace { id: NodeId(6), old: NodeId(1), peer_urls: urls(2) };
    assert_eq!(members.apply(&taken, &present, AT), Err(MembersError::PeerUrlExists));
    assert_eq!(settled(&mut members, present).incoming, ids(&[1, 3, 5]));
}

#[test]
fn who_replaces_a_replacement_takes_the_vote_of_the_first() {
    let (mut members, present) = three();
    members.apply(&replace(5, 2), &present, AT).expect("a replacement");
    let listens = |id| Configuration { learners: ids(&[id]), ..present.clone() };
    // 5 never started, so it never voted.
    members.apply(&replace(6, 5), &listens(5), AT).expect("another one instead");
    let (voters, _) = members.target(&listens(6), |id| id == NodeId(6));
    assert_eq!(voters, ids(&[1, 3, 6]), "in one step");
    let mut called_off = members.clone();
    assert_eq!(settled(&mut members, present.clone()).incoming, ids(&[1, 3, 6]));
    assert!(members.was_removed(NodeId(2)) && members.was_removed(NodeId(5)));
    // Or 5 is removed before 6 is ready.
    let remove = MembersCommand::Remove { id: NodeId(5) };
    called_off.apply(&remove, &listens(5), AT).expect("it goes");
    called_off.settle(&present, AT);
    assert!(called_off.was_removed(NodeId(5)));
    assert_eq!(settled(&mut called_off, present).incoming, ids(&[1, 3, 6]));
}

#[test]
fn who_is_to_be_replaced_keeps_its_address_until_then() {
    let (mut members, present) = three();
    members.apply(&replace(5, 2), &present, AT).expect("a replacement");
    let at_its_place = |id| MembersCommand::Add {
        id: NodeId(id),
        peer_urls: urls(2),
        wanted: Wanted::Voter,
        witness: false,
    };
    let refused = members.apply(&at_its_place(6), &present, AT);
    assert_eq!(refused, Err(MembersError::PeerUrlExists));
    let moves = MembersCommand::Update { id: NodeId(5), peer_urls: urls(2) };
    assert_eq!(members.apply(&moves, &present, AT), Ok(()), "its heir may move there");
    let present = settled(&mut members, present);
    assert_eq!(present.incoming, ids(&[1, 3, 5]));
    assert_eq!(members.apply(&add(7, Wanted::Learner), &present, AT), Ok(()));
}

#[test]
fn who_is_removed_goes_when_the_configuration_says_so_and_never_returns() {
    let (mut members, present) = three();
    let remove = |id| MembersCommand::Remove { id: NodeId(id) };
    assert_eq!(members.apply(&remove(9), &present, AT), Err(MembersError::NotFound));
    assert_eq!(members.apply(&remove(3), &present, AT), Ok(()));
    assert_eq!(members.apply(&remove(3), &present, AT), Ok(()), "asked again");
    assert!(members.get(NodeId(3)).is_some(), "it still votes");
    members.settle(&present, AT);
    assert!(!members.was_removed(NodeId(3)));
    let present = settled(&mut members, present);
    assert!(members.was_removed(NodeId(3)));
    assert_eq!(members.apply(&add(3, Wanted::Voter), &present, AT), Err(MembersError::IdExists));
    assert_eq!(members.apply(&remove(2), &present, AT), Ok(()));
    assert_eq!(members.apply(&remove(1), &present, AT), Err(MembersError::NotEnoughStarted));
}

#[test]
fn addresses_are_each_members_own() {
    let (mut members, present) = three();
    let taken = MembersCommand::Add {
        id: NodeId(4),
        peer_urls: urls(3),
        wanted: Wanted::Voter,
        witness: false,
    };
    assert_eq!(members.apply(&taken, &present, AT), Err(MembersError::PeerUrlExists));
    let update = |to| MembersCommand::Update { id: NodeId(1), peer_urls: urls(to) };
    assert_eq!(members.apply(&update(2), &present, AT), Err(MembersError::PeerUrlExists));
    assert_eq!(members.apply(&update(1), &present, AT), Ok(()));
    assert_eq!(members.apply(&update(8), &present, AT), Ok(()));
}

#[test]
fn the_last_one_is_the_cluster() {
    let (mut members, present) = three();
    members.apply(&MembersCommand::Force { id: NodeId(2) }, &present, AT).expect("it is there");
    assert_eq!(members.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [2]);
    assert!(members.was_removed(NodeId(1)) && members.was_removed(NodeId(3)));
}

fn witness(id: u64) -> MembersCommand {
    let peer_urls = urls(id);
    MembersCommand::Add { id: NodeId(id), peer_urls, wanted: Wanted::Voter, witness: true }
}

#[test]
fn every_quorum_has_somebody_with_a_store() {
    let seats = (1..=2).map(|number| (NodeId(number), Seat::of(urls(number))));
    let (mut members, mut present) = (Members::of(seats), Configuration::of((1..=2).map(NodeId)));
    members.apply(&witness(3), &present, AT).expect("one witness of three");
    present = settled(&mut members, present);
    assert_eq!(present.incoming, ids(&[1, 2, 3]));
    assert!(members.is_witness(NodeId(3)) && !members.is_witness(NodeId(1)));
    members.apply(&witness(4), &present, AT).expect("two of four");
    assert_eq!(members.apply(&witness(5), &present, AT), Err(MembersError::TooManyWitnesses));
    let remove = |id| MembersCommand::Remove { id: NodeId(id) };
    assert_eq!(members.apply(&remove(2), &present, AT), Err(MembersError::TooManyWitnesses));
    let force = MembersCommand::Force { id: NodeId(3) };
    assert_eq!(members.clone().apply(&force, &present, AT), Err(MembersError::TooManyWitnesses));
    assert_eq!(members.apply(&remove(4), &present, AT), Ok(()));
    // Who replaces a witness is one.
    let mut replaced = members.clone();
    replaced.apply(&replace(6, 3), &present, AT).expect("a replacement");
    assert!(replaced.is_witness(NodeId(6)));
    assert_eq!(settled(&mut replaced, present).incoming, ids(&[1, 2, 6]));
}

#[test]
fn who_leaves_waits_for_a_store_that_is_still_to_come() {
    let seats = (1..=2).map(|number| (NodeId(number), Seat::of(urls(number))));
    let (mut members, present) = (Members::of(seats), Configuration::of((1..=2).map(NodeId)));
    members.apply(&witness(3), &present, AT).expect("one witness of three");
    members.apply(&witness(4), &present, AT).expect("two of four");
    let present = settled(&mut members, present);
    members.apply(&add(5, Wanted::Voter), &present, AT).expect("a third store");
    let remove = MembersCommand::Remove { id: NodeId(2) };
    members.apply(&remove, &present, AT).expect("there will be two stores of four");
    let (voters, learners) = members.target(&present, |_| false);
    assert_eq!((voters, &learners), (ids(&[1, 2, 3, 4]), &ids(&[5])), "5 holds nothing yet");
    let present = Configuration { learners, ..present };
    assert_eq!(settled(&mut members, present).incoming, ids(&[1, 3, 4, 5]));
}

#[test]
fn an_empty_table_wants_nothing() {
    let present = Configuration::of([NodeId(1)]);
    let target = Members::default().target(&present, |_| true);
    assert_eq!(target, (ids(&[1]), ids(&[])));
    assert_eq!(Members::default().digest(), 0);
}

#[test]
fn bytes_come_back_and_cut_ones_are_refused() {
    let (id, old) = (NodeId(4), NodeId(1));
    let (name, peer_urls, client_urls) = ("n".to_owned(), urls(4), urls(5));
    let commands = [
        add(4, Wanted::Learner),
        witness(4),
        MembersCommand::Replace { id, old, peer_urls: peer_urls.clone() },
        MembersCommand::Remove { id },
        MembersCommand::Update { id, peer_urls },
        MembersCommand::Promote { id },
        MembersCommand::Publish { id, name, client_urls },
        MembersCommand::Force { id },
    ];
    for command in commands {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        assert!(MembersCommand::is_one(&bytes));
        for cut in 0..bytes.len() {
            let short = Bytes::copy_from_slice(&bytes[..cut]);
            assert_eq!(MembersCommand::decode(short), Err(BadMembers), "{command:?} at {cut}");
        }
        assert_eq!(MembersCommand::decode(Bytes::from(bytes)), Ok(command));
    }
    let (mut members, present) = three();
    members.apply(&replace(5, 2), &present, AT).expect("a replacement");
    members.apply(&witness(7), &present, AT).expect("a witness");
    settled(&mut members, present);
    let bytes = Bytes::from(members.encoded());
    for cut in 0..bytes.len() {
        assert_eq!(Members::decode(bytes.slice(..cut)), Err(BadMembers), "cut at {cut}");
    }
    assert_eq!(Members::decode(bytes), Ok(members));
}
