//! The list of buckets: physical names in, logical names out.

use super::{NAMESPACE, Node, Writer, XmlError, check_root, walk};

/// A bucket in the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketEntry {
    /// Its name.
    pub name: String,
    /// When it was made, as the storage server writes it.
    pub created: String,
    /// Its region, where the storage server says it.
    pub region: Option<String>,
}

/// A `ListAllMyBucketsResult`. What else a storage server says of a bucket (its ARN holds the physical name)
/// is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketList {
    /// The owner's id.
    pub owner_id: String,
    /// The owner's display name, where there is one.
    pub owner_name: Option<String>,
    /// The buckets.
    pub buckets: Vec<BucketEntry>,
    /// Where the storage server's next page begins.
    pub continuation: Option<String>,
}

impl BucketList {
    /// Reads a storage server's answer.
    ///
    /// # Errors
    /// [`XmlError`] if it is another document, is malformed, or has a bucket without a name.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut list = Self::default();
        let mut bucket = BucketEntry::default();
        walk(body, |node| {
            match node {
                Node::Open { path, .. } => {
                    check_root(path, "ListAllMyBucketsResult")?;
                    if is_bucket(path) {
                        bucket = BucketEntry::default();
                    }
                }
                Node::Close { path, .. } if is_bucket(path) => {
                    if bucket.name.is_empty() {
                        return Err(XmlError::Element("Name"));
                    }
                    list.buckets.push(std::mem::take(&mut bucket));
                }
                Node::Close { .. } => {}
                Node::Leaf { path, text, .. } => {
                    check_root(path, "ListAllMyBucketsResult")?;
                    list.take(&mut bucket, path, text)?;
                }
            }
            Ok(())
        })?;
        Ok(list)
    }

    fn take(&mut self, bucket: &mut BucketEntry, path: &[String], text: &str) -> Result<(), XmlError> {
        let below_root: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
        let text = text.to_owned();
        match below_root.as_slice() {
            ["Owner", "ID"] => self.owner_id = text,
            ["Owner", "DisplayName"] => self.owner_name = Some(text),
            ["ContinuationToken"] => self.continuation = Some(text).filter(|token| !token.is_empty()),
            ["Buckets", "Bucket", "Name"] => bucket.name = text,
            ["Buckets", "Bucket", "CreationDate"] => bucket.created = text,
            ["Buckets", "Bucket", "BucketRegion"] => bucket.region = Some(text),
            // An empty one.
            ["Buckets", "Bucket"] => return Err(XmlError::Element("Name")),
            _ => {}
        }
        Ok(())
    }

    /// The list as clients see it: each bucket under the name that `logical` gives its physical name, those for
    /// which it gives `None` left out, sorted by name.
    #[must_use]
    pub fn renamed(mut self, logical: impl Fn(&str) -> Option<String>) -> Self {
        self.buckets.retain_mut(|bucket| match logical(&bucket.name) {
            Some(name) => {
                bucket.name = name;
                true
            }
            None => false,
        });
        self.buckets.sort_by(|one, other| one.name.cmp(&other.name));
        self
    }

    /// One page of a sorted list: the names that begin with `prefix` and come after the name `after`, at most
    /// `most`. Where more follow, the continuation token is the last name of the page.
    #[must_use]
    pub fn page(mut self, prefix: Option<&str>, after: Option<&str>, most: Option<usize>) -> Self {
        self.buckets.retain(|bucket| {
            prefix.is_none_or(|prefix| bucket.name.starts_with(prefix))
                && after.is_none_or(|after| bucket.name.as_str() > after)
        });
        self.continuation = None;
        if let Some(most) = most.filter(|most| *most < self.buckets.len()) {
            self.buckets.truncate(most);
            self.continuation = self.buckets.last().map(|bucket| bucket.name.clone());
        }
        self
    }

    /// The document for the client; `prefix` is repeated in it.
    pub fn to_xml(&self, prefix: Option<&str>) -> Vec<u8> {
        let mut out = Writer::new();
        out.open("ListAllMyBucketsResult", Some(NAMESPACE));
        out.open("Owner", None);
        out.leaf("ID", &self.owner_id);
        if let Some(name) = &self.owner_name {
            out.leaf("DisplayName", name);
        }
        out.close("Owner");
        out.open("Buckets", None);
        for bucket in &self.buckets {
            out.open("Bucket", None);
            out.leaf("Name", &bucket.name);
            out.leaf("CreationDate", &bucket.created);
            if let Some(region) = &bucket.region {
                out.leaf("BucketRegion", region);
            }
            out.close("Bucket");
        }
        out.close("Buckets");
        if let Some(token) = &self.continuation {
            out.leaf("ContinuationToken", token);
        }
        if let Some(prefix) = prefix {
            out.leaf("Prefix", prefix);
        }
        out.close("ListAllMyBucketsResult");
        out.into_bytes()
    }
}

fn is_bucket(path: &[String]) -> bool {
    matches!(path, [_, buckets, bucket] if buckets == "Buckets" && bucket == "Bucket")
}
