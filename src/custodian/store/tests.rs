//! The same tests over SQLite and PostgreSQL, and the faults of each.

mod behaviour;
mod crash;
pub(in crate::custodian) mod database;
mod faults;
mod secrecy;
mod server;
mod states;
mod tampering;

/// Runs each of the functions named on a database of its own of either kind.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::Database::sqlite().await).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::Database::postgres().await).await;
                }
            )+
        }
    };
}
pub(in crate::custodian) use on_both;
