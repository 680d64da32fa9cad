//! A request in Cedar's terms: the names of the schema, made once, and what is made of them for each decision.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request, Response,
    RestrictedExpression, Schema, Validator,
};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::custodian::audit::{Action, Use};
use crate::custodian::identity::SpiffeId;
use crate::custodian::kek::Labels;
use crate::custodian::requester::Requester;
use crate::names::KekName;

/// As Cedar's `datetime` reads it.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The request is none that the schema knows, such as using the custodian as a KEK.
#[derive(Debug)]
pub(super) struct NoSuchQuestion;

/// What the schema declares.
pub(super) struct Vocabulary {
    pub(super) validator: Validator,
    authorizer: Authorizer,
    principal: EntityTypeName,
    key: EntityTypeName,
    reason: EntityTypeName,
    /// The type of `custodian`.
    no_key: EntityTypeName,
    custodian: Entity,
    /// Each action, in the groups that it belongs to.
    actions: HashMap<Action, Entity>,
    declared: Entities,
}

pub(super) static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(super::SCHEMA).expect("the schema of this program is right");
    Vocabulary::new(schema)
});

fn type_name(name: &str) -> EntityTypeName {
    format!("Claviger::{name}").parse().expect("the schema's names are well formed")
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

impl Vocabulary {
    fn new(schema: Schema) -> Self {
        let declared = schema.action_entities().expect("the schema's actions stand in no circle");
        let (action, no_key) = (type_name("Action"), type_name("Custodian"));
        let known = |known: &Action| declared.get(&uid(&action, known.as_str())).cloned();
        Self {
            authorizer: Authorizer::new(),
            principal: type_name("Principal"),
            key: type_name("Key"),
            reason: type_name("Reason"),
            custodian: Entity::new_no_attrs(uid(&no_key, "custodian"), HashSet::new()),
            no_key,
            actions: Action::ALL.iter().filter_map(|it| Some((*it, known(it)?))).collect(),
            declared,
            validator: Validator::new(schema),
        }
    }

    /// Whether the schema knows `action` of a KEK (or of the custodian).
    pub(super) fn applies(&self, action: Action, of_key: bool) -> bool {
        let resource = if of_key { &self.key } else { &self.no_key };
        let uid = self.actions.get(&action).map(Entity::uid);
        let resources =
            uid.and_then(|uid| Some(self.validator.schema().resources_for_action(&uid)?.any(|it| it == resource)));
        resources.unwrap_or(false)
    }

    /// Whether `action` belongs to the group.
    pub(super) fn is_in_group(&self, action: Action, group: &str) -> bool {
        let uid = self.actions.get(&action).map(Entity::uid);
        let groups = uid.and_then(|uid| self.declared.ancestors(&uid));
        groups.is_some_and(|mut groups| groups.any(|it| it.id().unescaped() == group))
    }

    /// Puts the request to the rules.
    pub(super) fn ask(
        &self,
        rules: &PolicySet,
        who: &Requester,
        what: &Use,
        granted: bool,
        now: OffsetDateTime,
    ) -> Result<Response, NoSuchQuestion> {
        let (request, entities) = self.question(who, what, granted, now)?;
        Ok(self.authorizer.is_authorized(&request, rules, &entities))
    }

    /// The request, which the schema allows, and those it speaks of.
    pub(super) fn question(
        &self,
        who: &Requester,
        what: &Use,
        granted: bool,
        now: OffsetDateTime,
    ) -> Result<(Request, Entities), NoSuchQuestion> {
        let principal = self.principal(&who.id).ok_or(NoSuchQuestion)?;
        let action = self.actions.get(&what.action).ok_or(NoSuchQuestion)?.clone();
        let resource = match &what.kek {
            Some(kek) => self.key(kek, &what.labels).ok_or(NoSuchQuestion)?,
            None => self.custodian.clone(),
        };
        let context = self.context(who, what, granted, now).ok_or(NoSuchQuestion)?;
        let schema = Some(self.validator.schema());
        let request = Request::new(principal.uid(), action.uid(), resource.uid(), context, schema);
        let entities = Entities::from_entities([principal, action, resource], None);
        Ok((request.map_err(|_| NoSuchQuestion)?, entities.map_err(|_| NoSuchQuestion)?))
    }

    fn principal(&self, id: &SpiffeId) -> Option<Entity> {
        let attributes = [
            ("id", id.as_str()),
            ("domain", id.trust_domain()),
            ("region", id.region()),
            ("role", id.role()),
            ("name", id.name()),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), text(value)));
        Entity::new(uid(&self.principal, id.as_str()), attributes.into(), HashSet::new()).ok()
    }

    fn key(&self, name: &KekName, labels: &Labels) -> Option<Entity> {
        let all = labels.iter().map(|(label, value)| RestrictedExpression::new_string(format!("{label}={value}")));
        let mut attributes = HashMap::from([
            ("name".to_owned(), text(name.as_str())),
            ("labels".to_owned(), RestrictedExpression::new_set(all)),
        ]);
        if let Some(jurisdiction) = labels.jurisdiction() {
            attributes.insert("jurisdiction".to_owned(), text(jurisdiction));
        }
        Entity::new(uid(&self.key, name.as_str()), attributes, HashSet::new()).ok()
    }

    fn context(&self, who: &Requester, what: &Use, granted: bool, now: OffsetDateTime) -> Option<Context> {
        let time = now.to_offset(time::UtcOffset::UTC).format(TIME).ok()?;
        let mut pairs = vec![
            ("reason", RestrictedExpression::new_entity_uid(uid(&self.reason, who.reason.as_str()))),
            ("source", RestrictedExpression::new_ip(address(who.source))),
            ("time", RestrictedExpression::new_datetime(time)),
            ("granted", RestrictedExpression::new_bool(granted)),
        ];
        pairs.extend(who.behalf.as_ref().map(|behalf| ("behalf", text(behalf.as_str()))));
        if let Some(branch) = &what.branch {
            pairs.push(("bucket", text(branch.bucket.as_str())));
            pairs.push(("purpose", text(branch.purpose.as_str())));
            pairs.push(("writer", text(branch.writer.as_str())));
        }
        Context::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value))).ok()
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// An IPv4 address that comes as IPv6 (`::ffff:192.0.2.1`) is still the IPv4 address that rules speak of.
fn address(source: IpAddr) -> String {
    source.to_canonical().to_string()
}
