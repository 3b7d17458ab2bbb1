//! What stands in the log: commands of the store and of the members; and messages of replicas. What
//! can be read is written again, and comes back.
#![no_main]

use bytes::Bytes;
use quorate_replica::members::{Members, MembersCommand};
use quorate_replica::store::{Asked, Command};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(command) = Command::decode(bytes.clone()) {
        let mut again = Vec::new();
        command.encode(&mut again);
        assert_eq!(Command::decode(Bytes::from(again)), Ok(command));
    }
    if let Ok(asked) = Asked::decode(bytes.clone()) {
        let mut again = Vec::new();
        asked.encode(&mut again);
        assert_eq!(Asked::decode(Bytes::from(again)), Ok(asked));
    }
    if let Ok(command) = MembersCommand::decode(bytes.clone()) {
        let mut again = Vec::new();
        command.encode(&mut again);
        assert_eq!(MembersCommand::decode(Bytes::from(again)), Ok(command));
    }
    if let Ok(members) = Members::decode(bytes.clone()) {
        assert_eq!(Members::decode(Bytes::from(members.encoded())), Ok(members));
    }
    let _ = quorate_replica::decode_metadata(bytes.clone());
    let _ = quorate_replica::Message::decode(bytes);
});
