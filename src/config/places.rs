//! Where the paths of a configuration begin: at its own folder, or where the service manager put the credentials.

use std::path::{Path, PathBuf};

/// What a path begins with that is about a credential.
const PREFIX: &str = "${CREDENTIALS_DIRECTORY}/";
/// What systemd tells a service's process, and whoever starts it elsewhere may tell it, too.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The two folders.
pub(super) struct Places {
    folder: PathBuf,
    credentials: Option<PathBuf>,
}

impl Places {
    /// Those of the configuration in `file`, in this process.
    pub(super) fn of(file: &Path) -> Self {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let credentials = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        Self { folder, credentials }
    }

    /// Whether `path` is that of a credential, and nothing says where those are.
    pub(super) fn lack(&self, path: &str) -> bool {
        self.credentials.is_none() && path.starts_with(PREFIX)
    }

    /// The path that the text stands for.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        match (path.strip_prefix(PREFIX), &self.credentials) {
            (Some(name), Some(credentials)) => credentials.join(name),
            _ => self.folder.join(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_looked_for_where_the_service_manager_put_it() {
        let folder = PathBuf::from("/etc/claviger");
        let places = Places { folder, credentials: Some(PathBuf::from("/run/credentials/proxy")) };
        assert_eq!(
            places.resolve("${CREDENTIALS_DIRECTORY}/storage.key"),
            Path::new("/run/credentials/proxy/storage.key")
        );
        assert!(!places.lack("${CREDENTIALS_DIRECTORY}/storage.key"));
        for (other, path) in [
            ("certs/ca.crt", "/etc/claviger/certs/ca.crt"),
            ("/run/ca.crt", "/run/ca.crt"),
            ("${HOME}/ca.crt", "/etc/claviger/${HOME}/ca.crt"),
            ("$CREDENTIALS_DIRECTORY/ca.crt", "/etc/claviger/$CREDENTIALS_DIRECTORY/ca.crt"),
        ] {
            assert_eq!(places.resolve(other), Path::new(path), "taken as it stands");
        }
    }

    #[test]
    fn without_a_folder_of_credentials_only_they_are_lacking() {
        let places = Places { folder: PathBuf::from("/etc/claviger"), credentials: None };
        assert!(places.lack("${CREDENTIALS_DIRECTORY}/storage.key"));
        assert!(!places.lack("storage.key") && !places.lack("${CREDENTIALS_DIRECTORY}"));
    }
}
