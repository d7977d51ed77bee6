//! The console as a browser without scripts uses it: pages, forms, cookies.

use crate::client::http::{Client, Response};

/// A browser session that is signed in to the console.
pub struct Browser {
    client: Client,
    cookie: String,
    csrf_token: String,
}

impl Browser {
    /// Signs in with a root key.
    ///
    /// # Panics
    /// When the service refuses the sign-in.
    #[track_caller]
    #[must_use]
    pub fn sign_in(client: &Client, root_token: &str) -> Self {
        let client = client.anonymous();
        let answer = client.request("POST", "/console/sign-in").form(&[("secret", root_token)]).expect(303);
        let cookie = answer.cookie().expect("a session comes with a cookie").to_owned();
        Self::with_cookie(&client, &cookie)
    }

    /// A browser with the cookie of an existing session.
    ///
    /// # Panics
    /// When the session is not valid.
    #[track_caller]
    #[must_use]
    pub fn with_cookie(client: &Client, cookie: &str) -> Self {
        let mut browser =
            Self { client: client.anonymous(), cookie: cookie.to_owned(), csrf_token: String::new() };
        let page = browser.get("/console/keys").expect_page(200);
        browser.csrf_token = between(&page, "name=\"csrf_token\" value=\"", "\"").to_owned();
        browser
    }

    /// The session's cookie.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The CSRF token of its forms.
    #[must_use]
    pub fn csrf_token(&self) -> &str {
        &self.csrf_token
    }

    /// Requests a page.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Page {
        Page(self.client.get(path).header("cookie", &self.cookie).send())
    }

    /// Sends a form with the CSRF token, from the same origin.
    #[track_caller]
    #[must_use]
    pub fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let mut all = vec![("csrf_token", self.csrf_token.as_str())];
        all.extend_from_slice(fields);
        let request = self.client.request("POST", path).header("cookie", &self.cookie);
        Page(request.header("sec-fetch-site", "same-origin").form(&all).send())
    }

    /// Sends a form, follows the redirect with the notice cookie of the answer, and returns the page.
    ///
    /// # Panics
    /// When the answer is not a redirect to a page.
    #[track_caller]
    #[must_use]
    pub fn submit_and_follow(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.submit(path, fields);
        let location = answer.location(303);
        let cookie = match answer.0.cookie() {
            Some(notice) => format!("{}; {notice}", self.cookie),
            None => self.cookie.clone(),
        };
        Page(self.client.get(&location).header("cookie", &cookie).send()).expect_page(200)
    }
}

/// An answer that is a page or a redirect to one.
pub struct Page(pub Response);

impl Page {
    /// Checks the status and that the answer is HTML, and returns its text.
    ///
    /// # Panics
    /// When the status or the type differs.
    #[track_caller]
    pub fn expect_page(&self, status: u16) -> String {
        assert_eq!(self.0.status, status, "{}", self.0.text());
        assert_eq!(self.0.header("content-type"), Some("text/html; charset=utf-8"), "{}", self.0.text());
        self.0.text()
    }

    /// Checks the status and returns the `Location`.
    ///
    /// # Panics
    /// When the status differs or there is no `Location`.
    #[track_caller]
    #[must_use]
    pub fn location(&self, status: u16) -> String {
        assert_eq!(self.0.status, status, "{}", self.0.text());
        self.0.header("location").expect("the answer has a Location").to_owned()
    }
}

/// The text between the first `before` and the next `after`.
///
/// # Panics
/// When either is missing.
#[track_caller]
#[must_use]
pub fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    found.unwrap_or_else(|| panic!("no text between {before} and {after} in {text}")).0
}
