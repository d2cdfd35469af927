//! Reads policy documents. What is not understood is refused: a rule that was passed over could be one that denies.

use super::condition::Condition;
use super::glob::{Glob, Style};
use super::policy::{Choice, Policy, Principal, Statement};
use super::strict_json::Json;

/// Bytes of a policy of a resource, as AWS bounds it.
pub const RESOURCE_POLICY_MAX: usize = 20 << 10;
/// Of one document, and of one list in it: evaluation goes through all.
const STATEMENTS_MAX: usize = 256;
const VALUES_MAX: usize = 1024;

/// A policy of a user; the error says where in it, and what is wrong.
pub fn identity(document: &Json) -> Result<Policy, String> {
    read(document, false)
}

/// A policy of a resource.
pub fn of_resource(text: &str) -> Result<Policy, String> {
    if text.len() > RESOURCE_POLICY_MAX {
        return Err(format!("the policy has {} bytes, {RESOURCE_POLICY_MAX} are the most", text.len()));
    }
    read(&Json::parse(text)?, true)
}

fn read(document: &Json, of_resource: bool) -> Result<Policy, String> {
    let members = document.object().ok_or("a policy must be an object")?;
    // Without a version it is the old language, which has no variables.
    let (mut variables, mut found) = (false, None);
    for (name, value) in members {
        match name.as_str() {
            "Version" => match value.text() {
                Some("2012-10-17") => variables = true,
                Some("2008-10-17") => {}
                _ => return Err("Version: must be 2012-10-17 or 2008-10-17".to_owned()),
            },
            "Id" => drop(value.text().ok_or("Id: must be a string")?),
            "Statement" => found = Some(value.items()),
            other => return Err(format!("{other} is not known; known are Version, Id, Statement")),
        }
    }
    let found = found.filter(|list| !list.is_empty()).ok_or("has no Statement")?;
    if found.len() > STATEMENTS_MAX {
        return Err(format!("Statement: more than {STATEMENTS_MAX}"));
    }
    let numbered = found.iter().enumerate();
    let read = numbered
        .map(|(at, json)| statement(json, variables, of_resource).map_err(|why| format!("Statement[{at}]{why}")));
    Ok(Policy { statements: read.collect::<Result<_, _>>()? })
}

fn statement(json: &Json, variables: bool, of_resource: bool) -> Result<Statement, String> {
    let members = json.object().ok_or(": must be an object")?;
    let (mut denies, mut actions, mut resources, mut principals) = (None, None, None, None);
    let mut conditions = Vec::new();
    for (name, value) in members {
        let place = |why: String| format!(".{name}: {why}");
        match name.as_str() {
            "Sid" => drop(value.text().ok_or_else(|| place("must be a string".into()))?),
            "Effect" => match value.text() {
                Some("Allow") => denies = Some(false),
                Some("Deny") => denies = Some(true),
                _ => return Err(place("must be Allow or Deny".into())),
            },
            "Action" | "NotAction" if actions.is_none() => {
                let globs =
                    globs(value, Style { wild: true, variables: false, folds: true }, is_action).map_err(place)?;
                actions = Some(Choice { inverted: name == "NotAction", globs });
            }
            "Resource" | "NotResource" if resources.is_none() => {
                let globs = globs(value, Style { wild: true, variables, folds: false }, is_resource).map_err(place)?;
                resources = Some(Choice { inverted: name == "NotResource", globs });
            }
            "Action" | "NotAction" | "Resource" | "NotResource" => {
                return Err(place("the other one is there too".into()));
            }
            "Principal" if of_resource => principals = Some(self::principals(value).map_err(place)?),
            "Principal" => return Err(place("a policy of a user is about that user".into())),
            "NotPrincipal" => {
                return Err(place("is not served here: deny with a condition on aws:PrincipalArn".into()));
            }
            "Condition" => conditions = self::conditions(value, variables).map_err(|why| format!(".Condition{why}"))?,
            _ => return Err(place("is not known".into())),
        }
    }
    if of_resource && principals.is_none() {
        return Err(": has no Principal".to_owned());
    }
    Ok(Statement {
        denies: denies.ok_or(": has no Effect")?,
        principals,
        actions: actions.ok_or(": has no Action")?,
        resources: resources.ok_or(": has no Resource")?,
        conditions,
    })
}

/// A string or a list of strings; at least one.
fn texts(value: &Json) -> Result<Vec<&str>, String> {
    let items = value.items();
    if items.is_empty() || items.len() > VALUES_MAX {
        return Err(format!("must have 1 to {VALUES_MAX} values"));
    }
    items.iter().map(|item| item.text().ok_or_else(|| "must be a string, or a list of strings".to_owned())).collect()
}

fn globs(value: &Json, style: Style, check: fn(&str) -> Option<&'static str>) -> Result<Vec<Glob>, String> {
    let read = |text: &str| match check(text) {
        Some(rule) => Err(format!("{text} is not {rule}")),
        None => Glob::read(text, style),
    };
    texts(value)?.into_iter().map(read).collect()
}

/// What `text` should be and is not.
fn is_action(text: &str) -> Option<&'static str> {
    let vendor =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-*?".contains(&b));
    let operation =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"*?".contains(&b));
    let fits = text == "*" || text.split_once(':').is_some_and(|(service, name)| vendor(service) && operation(name));
    (!fits).then_some("an action, as in kinesis:PutRecord or kinesis:Get*")
}

fn is_resource(text: &str) -> Option<&'static str> {
    let fits = text == "*" || text.starts_with("arn:") && text.split(':').count() >= 6 || text == "arn:*";
    (!fits).then_some("an ARN or *")
}

fn principals(value: &Json) -> Result<Vec<Principal>, String> {
    if let Some(text) = value.text() {
        return match text {
            "*" => Ok(vec![Principal::Anybody]),
            _ => Err("must be \"*\" or an object, as in {\"AWS\": \"123456789012\"}".to_owned()),
        };
    }
    let members = value.object().filter(|members| !members.is_empty());
    let mut principals = Vec::new();
    for (kind, value) in members.ok_or("must be \"*\" or an object")? {
        for text in texts(value)? {
            principals.push(match kind.as_str() {
                "AWS" => principal(text)?,
                "Service" | "Federated" | "CanonicalUser" => Principal::Nobody,
                other => return Err(format!("{other} is not known; AWS is")),
            });
        }
    }
    Ok(principals)
}

/// `*`, an account, its root, or a user or role.
fn principal(text: &str) -> Result<Principal, String> {
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if text == "*" {
        return Ok(Principal::Anybody);
    }
    if is_account(text) {
        return Ok(Principal::Account(text.to_owned()));
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", account, "root"] if partition.starts_with("aws") && is_account(account) => {
            Ok(Principal::Account(account.to_owned()))
        }
        ["arn", partition, "iam" | "sts", "", account, name]
            if partition.starts_with("aws")
                && is_account(account)
                && name.contains('/')
                && !name.contains(['*', '?']) =>
        {
            Ok(Principal::User(text.to_owned()))
        }
        _ => Err(format!("{text} is not *, an account, or the ARN of an account's root, of a user or a role")),
    }
}

/// `{"OPERATOR": {"KEY": value or [values]}}`: all must hold.
fn conditions(value: &Json, variables: bool) -> Result<Vec<Condition>, String> {
    let mut conditions = Vec::new();
    for (operator, block) in value.object().ok_or(": must be an object")? {
        let block = block.object().ok_or_else(|| format!(".{operator}: must be an object"))?;
        for (name, values) in block {
            let read = condition(operator, name, values, variables);
            conditions.push(read.map_err(|why| format!(".{operator}.{name}: {why}"))?);
        }
    }
    Ok(conditions)
}

/// Numbers and booleans may be written without quotes.
fn condition(operator: &str, name: &str, values: &Json, variables: bool) -> Result<Condition, String> {
    let items = values.items();
    if items.is_empty() || items.len() > VALUES_MAX {
        return Err(format!("must have 1 to {VALUES_MAX} values"));
    }
    let text = |item: &Json| match item {
        Json::Text(text) => Ok(text.clone()),
        Json::Bool(value) => Ok(value.to_string()),
        Json::Number(number) => Ok(number.to_string()),
        _ => Err("must be a string, or a list of strings".to_owned()),
    };
    let texts = items.iter().map(text).collect::<Result<Vec<String>, String>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Condition::read(operator, name, &texts, variables)
}
