//! Another client that may write to the bucket, and interferes with an upload.

use std::time::Duration;

use bytes::Bytes;

use super::{KEY, OBJECT, PART, assert_object};
use crate::harness::proxy::{ADMIN, client, everything};
use crate::harness::{Answer, BUCKET, Setup, World, noise};

/// Other bytes of the same CRC-64/NVME: what differs is a multiple of its polynomial.
fn of_the_same_checksum(bytes: &[u8]) -> Bytes {
    let multiple = (u128::from(0x9a6c_9329_ac4b_c9b5_u64) << 1) | 1;
    let mut other = bytes.to_vec();
    other[1000..1016].iter_mut().zip(multiple.to_le_bytes()).for_each(|(byte, change)| *byte ^= change);
    other.into()
}

#[tokio::test]
async fn bytes_of_the_same_crc_do_not_take_the_place_of_a_part_that_is_listed() {
    let clients = vec![client(ADMIN, everything()), client("AKBOB", everything())];
    let world = World::with(Setup { clients, ..Setup::default() }).await;
    let bob = world.proxy.s3_as("AKBOB");
    let body = noise(PART, 1);
    let forged = of_the_same_checksum(&body);
    assert_ne!(body, forged);
    for (sender, sent, counts) in [(&bob, &forged, false), (&world.s3, &body, true)] {
        let id = world.s3.create_upload(BUCKET, KEY).await;
        let first = world.s3.upload_part(OBJECT, &id, 1, body.clone()).await.ok();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let second = sender.upload_part(OBJECT, &id, 1, sent.clone()).await.ok();
        let crc = |answer: &Answer| answer.header("x-amz-checksum-crc64nvme").to_owned();
        assert_eq!(crc(&first), crc(&second));
        let answer = world.s3.complete(OBJECT, &id, &[(1, first.header("etag").to_owned())]).await;
        if counts {
            answer.ok();
            assert_object(&world.s3, &body).await;
        } else {
            answer.fails(400, "InvalidPart");
            assert!(world.store.object(BUCKET, KEY).is_none());
        }
    }
}
