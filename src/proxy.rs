//! The listener side: authenticate, route, dispatch, respond.
