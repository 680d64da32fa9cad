//! What a crash, a client that goes away, or another's folder leave.

use super::*;

#[tokio::test]
async fn what_the_index_does_not_tell_of_is_removed_at_the_start() {
    let fixture = fixture().await;
    fixture.put("key", "content").await;
    let orphan = fixture.root.path().join(STORED).join("ab").join("ab".repeat(16));
    let half = fixture.root.path().join(INCOMING).join(".tmp123");
    std::fs::write(&orphan, "whole, but not committed").expect("writes");
    std::fs::write(&half, "half").expect("writes");
    fixture.storage.close().await;
    let storage = FolderStorage::open(fixture.root.path()).await.expect("opens");
    let fixture = Fixture { storage, root: fixture.root };
    assert!(!orphan.exists() && !half.exists());
    assert_eq!((fixture.get("key").await.expect("there"), fixture.files()), (b"content".to_vec(), 1));
}

#[tokio::test]
async fn a_reader_gets_all_of_what_is_deleted_meanwhile() {
    let fixture = fixture().await;
    fixture.put("key", vec![7; 3 << 20]).await;
    let output = fixture.storage.get_object(request(get("key"))).await.expect("there").output;
    fixture.put("key", "other").await;
    assert_eq!(fixture.files(), 2);
    assert!(bytes(output).await == vec![7; 3 << 20]);
    assert_eq!(fixture.files(), 1);
}

#[tokio::test]
async fn an_upload_that_nobody_waits_for_leaves_nothing() {
    let fixture = fixture().await;
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let waits = stream::once(async move {
        // It never comes.
        let _ = receiver.await;
        Ok::<_, std::io::Error>(Bytes::new())
    });
    let input = PutObjectInput { body: Some(StreamingBlob::wrap(waits)), ..put("key", "") };
    let upload = fixture.storage.put_object(request(input));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), upload).await.is_err());
    drop(sender);
    assert_eq!((fixture.keys().await.len(), fixture.files()), (0, 0));
}

#[tokio::test]
async fn a_folder_of_an_earlier_demo_is_refused() {
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(root.path().join("demo-records")).expect("makes");
    let refused = FolderStorage::open(root.path()).await.err().expect("refused").to_string();
    assert!(refused.contains("an earlier version") && refused.contains("--dir"), "{refused}");
    assert_eq!(std::fs::read_dir(root.path()).expect("there").count(), 1);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_nothing() {
    let fixture = fixture().await;
    fixture.put("key", "content").await;
    // As good as full: nothing can be made in it.
    std::fs::remove_dir(fixture.root.path().join(INCOMING)).expect("empty");
    assert_eq!(code(fixture.storage.put_object(request(put("key", "other"))).await), "InternalError");
    std::fs::create_dir(fixture.root.path().join(INCOMING)).expect("makes");
    assert_eq!((fixture.get("key").await.expect("there"), fixture.files()), (b"content".to_vec(), 1));
}
