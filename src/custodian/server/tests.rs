//! The server over real sockets, with certificates of several authorities.

mod bad_input;
mod branches;
mod cutting_off;
mod faults;
mod harness;
mod identity;
mod life;
mod people;
mod seals;
mod seeing;
mod tokens;
mod transit;
