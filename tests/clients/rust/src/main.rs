//! What applications do with the AWS SDK for Rust: `BUCKET PREFIX FILE PART-SIZE`. Exits with 0 when all is as it should be.

use std::{env, error::Error, fs, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_s3::{
    Client, config,
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Test {
    s3: Client,
    bucket: String,
    prefix: String,
}

impl Test {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn read(&self, name: &str, range: Option<String>) -> Outcome<Vec<u8>> {
        let answer = self.s3.get_object().bucket(&self.bucket).key(self.key(name)).set_range(range).send().await?;
        Ok(answer.body.collect().await?.to_vec())
    }

    async fn create(&self, name: &str, checksum: Option<ChecksumAlgorithm>) -> Outcome<String> {
        let created =
            self.s3.create_multipart_upload().bucket(&self.bucket).key(self.key(name)).set_checksum_algorithm(checksum);
        let created = created.content_type("application/x-claviger-test").metadata("color", "blue").send().await?;
        Ok(created.upload_id.ok_or("no upload id")?)
    }

    async fn complete(&self, name: &str, upload: String, parts: Vec<CompletedPart>) -> Outcome<()> {
        let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.s3.complete_multipart_upload().bucket(&self.bucket).key(self.key(name));
        complete.upload_id(upload).multipart_upload(list).send().await?;
        Ok(())
    }

    async fn upload(&self, data: &[u8], part: usize) -> Outcome<()> {
        let upload = self.create("large", Some(ChecksumAlgorithm::Crc32)).await?;
        let mut parts = Vec::new();
        for (number, piece) in (1..).zip(data.chunks(part)) {
            let sent = self
                .s3
                .upload_part()
                .bucket(&self.bucket)
                .key(self.key("large"))
                .upload_id(&upload)
                .part_number(number);
            let sent = sent.body(ByteStream::from(piece.to_vec())).send().await?;
            let checksum = sent.checksum_crc32().map(str::to_owned);
            let done = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).set_checksum_crc32(checksum);
            parts.push(done.build());
        }
        self.complete("large", upload, parts).await?;
        let head = self.s3.head_object().bucket(&self.bucket).key(self.key("large")).send().await?;
        assert_eq!(head.content_length, Some(i64::try_from(data.len())?));
        assert_eq!(head.content_type.as_deref(), Some("application/x-claviger-test"));
        assert_eq!(head.metadata.and_then(|all| all.get("color").cloned()).as_deref(), Some("blue"));
        assert!(self.read("large", None).await? == data, "the whole object");
        let range = format!("bytes={}-{}", part - 10, part + 9);
        assert!(self.read("large", Some(range)).await? == data[part - 10..part + 10], "a range over two parts");
        Ok(())
    }

    async fn copy(&self, data: &[u8], part: usize) -> Outcome<()> {
        let source = format!("{}/{}", self.bucket, self.key("large"));
        self.s3.copy_object().bucket(&self.bucket).key(self.key("copied")).copy_source(&source).send().await?;
        assert!(self.read("copied", None).await? == data, "the copy");
        let upload = self.create("assembled", None).await?;
        let mut parts = Vec::new();
        for (number, start) in (1..).zip((0..data.len()).step_by(part)) {
            let range = format!("bytes={start}-{}", (start + part).min(data.len()) - 1);
            let copy = self.s3.upload_part_copy().bucket(&self.bucket).key(self.key("assembled")).upload_id(&upload);
            let copied = copy.part_number(number).copy_source(&source).copy_source_range(range).send().await?;
            let etag = copied.copy_part_result.and_then(|result| result.e_tag);
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
        }
        self.complete("assembled", upload, parts).await?;
        assert!(self.read("assembled", None).await? == data, "the object assembled from pieces of another");
        Ok(())
    }

    async fn condition_and_presigned(&self) -> Outcome<()> {
        let put = || self.s3.put_object().bucket(&self.bucket).key(self.key("small"));
        put().body(ByteStream::from_static(b"first")).send().await?;
        let refused = put().if_none_match("*").body(ByteStream::from_static(b"second")).send().await;
        assert!(refused.is_err_and(|error| error.raw_response().is_some_and(|raw| raw.status().as_u16() == 412)));
        let hour = PresigningConfig::expires_in(Duration::from_secs(3600))?;
        let signed = self.s3.get_object().bucket(&self.bucket).key(self.key("small")).presigned(hour).await?;
        println!("{}", signed.uri());
        Ok(())
    }

    async fn list_and_delete(&self) -> Outcome<()> {
        let wanted: Vec<_> = (0..30).map(|number| self.key(&format!("many/{number:02}"))).collect();
        for key in &wanted {
            self.s3.put_object().bucket(&self.bucket).key(key).body(ByteStream::from_static(b"x")).send().await?;
        }
        let prefix = self.key("many/");
        let mut pages =
            self.s3.list_objects_v2().bucket(&self.bucket).prefix(&prefix).max_keys(7).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            found.extend(page?.contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        assert_eq!(found, wanted);
        let named = wanted.iter().map(|key| ObjectIdentifier::builder().key(key).build());
        let delete = Delete::builder().set_objects(Some(named.collect::<Result<_, _>>()?)).build()?;
        let deleted = self.s3.delete_objects().bucket(&self.bucket).delete(delete).send().await?;
        assert_eq!(deleted.deleted().len(), wanted.len());
        let missing = self.s3.get_object().bucket(&self.bucket).key(&wanted[0]).send().await;
        assert!(missing.is_err_and(|error| error.into_service_error().is_no_such_key()));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [bucket, prefix, file, part] = <[String; 4]>::try_from(arguments).map_err(|_| "four arguments")?;
    let (data, part) = (fs::read(file)?, part.parse()?);
    let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let s3 = Client::from_conf(config::Builder::from(&shared).force_path_style(true).build());
    let test = Test { s3, bucket, prefix };
    test.upload(&data, part).await?;
    test.copy(&data, part).await?;
    test.condition_and_presigned().await?;
    test.list_and_delete().await
}
