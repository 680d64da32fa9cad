//! Tests of a KEK.

use super::*;
