//! The pages as HTML, and the responses that carry them. All text from outside is escaped here.

use std::fmt::Write as _;

use super::link::{Hello, HostView, Problem, View};

/// The script that exchanges the token of the link.
pub(super) const DOOR_SCRIPT: &str = include_str!("door.js");
/// The script of the console.
pub(super) const SCRIPT: &str = include_str!("console.js");
const STYLE: &str = include_str!("style.css");

/// Nothing but the console's own script and style, and requests to where they came from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

// --- responses --------------------------------------------------------------------------------------------

fn head(status: u16, reason: &str, media: &str, more: &str) -> String {
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {media}\r\n{more}Cache-Control: no-store\r\nContent-Security-Policy: {POLICY}\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n"
    )
}

fn whole(status: u16, reason: &str, media: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let more = format!("{more}Content-Length: {}\r\n", body.len());
    [head(status, reason, media, &more).as_bytes(), body].concat()
}

pub(super) fn html(body: &str) -> Vec<u8> {
    whole(200, "OK", "text/html; charset=utf-8", "", body.as_bytes())
}

pub(super) fn script(text: &str) -> Vec<u8> {
    whole(200, "OK", "text/javascript; charset=utf-8", "", text.as_bytes())
}

pub(super) fn style() -> Vec<u8> {
    whole(200, "OK", "text/css; charset=utf-8", "", STYLE.as_bytes())
}

pub(super) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    json_text(&serde_json::to_string(value).unwrap_or_default())
}

pub(super) fn json_text(text: &str) -> Vec<u8> {
    whole(200, "OK", "application/json", "", text.as_bytes())
}

/// The beginning of a response whose lines follow, until the connection ends.
pub(super) fn stream() -> Vec<u8> {
    head(200, "OK", "application/x-ndjson", "").into_bytes()
}

pub(super) fn entered(path: &str, cookie: &str) -> Vec<u8> {
    let body = serde_json::json!({ "path": path }).to_string();
    whole(200, "OK", "application/json", &format!("Set-Cookie: {cookie}\r\n"), body.as_bytes())
}

/// A refusal: a page that says why. The scripts show its text.
pub(super) fn problem(status: u16, reason: &str, message: &str) -> Vec<u8> {
    let mut page = begin("sanedge console", "");
    let _ = write!(
        page,
        "<main><h1>sanedge console</h1><p role=\"alert\" id=\"why\">{}</p></main>",
        escaped(message)
    );
    whole(status, reason, "text/html; charset=utf-8", "", page.as_bytes())
}

// --- pages ------------------------------------------------------------------------------------------------

fn begin(title: &str, attributes: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n\
         <title>{}</title>\n<body{attributes}>\n",
        escaped(title)
    )
}

/// The page of the link.
pub(super) fn door() -> String {
    begin("sanedge console", "")
        + "<main><h1>sanedge console</h1><p role=\"status\" id=\"why\">Opening the console needs JavaScript.</p></main>\n\
           <script src=\"/door.js\"></script>\n"
}

/// The console. Root's process writes it: it has all that is shown.
pub(crate) fn console(file: &str, csrf: &str, hello: &Hello, view: &View) -> String {
    let attributes = format!(" data-csrf=\"{}\" data-seen=\"{}\"", escaped(csrf), escaped(&view.digest));
    let mut page = begin(&format!("sanedge console: {file}"), &attributes);
    let _ = write!(
        page,
        "<header><h1>sanedge console</h1><p>{}</p></header>\n<main>\n<section aria-labelledby=\"h-status\">\n<h2 id=\"h-status\">Status</h2>\n<p id=\"edge\">{}</p>\n",
        escaped(file),
        escaped(&view.edge)
    );
    if !hello.is_whole {
        let _ = writeln!(
            page,
            "<p class=\"warning\" id=\"sandbox\">The process of this page is not in a complete sandbox: {}.</p>",
            escaped(&hello.sandbox)
        );
    }
    problems(&mut page, &view.problems);
    hosts(&mut page, &view.hosts);
    page.push_str("</section>\n");
    if !view.unapplied.is_empty() {
        page.push_str("<section aria-labelledby=\"h-unapplied\">\n<h2 id=\"h-unapplied\">Not in use yet</h2>\n<p>The file differs from what the edge serves:</p>\n<ul class=\"code\">");
        each(&mut page, &view.unapplied, |line| format!("<li>{}</li>", escaped(line)));
        let _ = write!(
            page,
            "</ul>\n<button type=\"button\" id=\"as-it-is\" data-restart=\"{}\" data-websockets=\"{}\">Put the file to use</button>\n</section>\n",
            escaped(&view.restart.join("; ")),
            view.websockets
        );
    }
    forms(&mut page, view);
    page.push_str(RESULT);
    doctor(&mut page, &view.hosts);
    let _ = write!(
        page,
        "<section aria-labelledby=\"h-file\">\n<h2 id=\"h-file\">The file</h2>\n<pre tabindex=\"0\" id=\"file\">"
    );
    each(&mut page, &view.lines, |line| escaped(line) + "\n");
    page.push_str("</pre>\n");
    if view.is_cut {
        page.push_str("<p>The file has more lines, which are not shown.</p>\n");
    }
    page.push_str("</section>\n<section>\n<button type=\"button\" id=\"end\">End the console</button>\n</section>\n</main>\n<script src=\"console.js\"></script>\n");
    page
}

/// Where a change is shown before it is made, and each step while it is made.
const RESULT: &str = "<section id=\"result\" tabindex=\"-1\" aria-labelledby=\"h-result\" hidden>\n<h2 id=\"h-result\">The change</h2>\n\
<div id=\"preview\"></div>\n<label id=\"restart-label\" hidden><input type=\"checkbox\" id=\"restart\"> <span></span></label>\n\
<p class=\"buttons\"><button type=\"button\" id=\"apply\" class=\"main\">Apply</button> <button type=\"button\" id=\"cancel\">Cancel</button></p>\n\
<ol id=\"steps\" class=\"steps\" role=\"log\" aria-live=\"polite\" aria-label=\"Steps\"></ol>\n<p id=\"outcome\" role=\"status\"></p>\n<p><a id=\"again\" href=\"./\" hidden>Show the new state</a></p>\n</section>\n";

fn problems(page: &mut String, problems: &[Problem]) {
    if problems.is_empty() {
        page.push_str("<p id=\"good\">Nothing is wrong.</p>\n");
        return;
    }
    page.push_str("<ul id=\"problems\">");
    for problem in problems {
        let class = if problem.severity == "error" { "error" } else { "warning" };
        let _ = write!(
            page,
            "<li class=\"{class}\"><b>{class}</b> {}<small>{}</small></li>",
            escaped(&problem.message),
            escaped(&problem.remedy)
        );
    }
    page.push_str("</ul>\n");
}

fn hosts(page: &mut String, hosts: &[HostView]) {
    if hosts.is_empty() {
        page.push_str("<p>The file has no host.</p>\n");
        return;
    }
    page.push_str("<table id=\"hosts\"><caption>Hosts of the file</caption><thead><tr><th scope=\"col\">Host<th scope=\"col\">Leads to<th scope=\"col\">Certificate</thead><tbody>");
    for host in hosts {
        let _ = write!(page, "<tr><th scope=\"row\">{}<td>", escaped(&host.host));
        let redirect = host.redirect.iter().map(|to| format!("redirect to {to}"));
        let routes = host.routes.iter().map(|(path, app)| format!("{path} → {app}"));
        each(page, redirect.chain(routes), |line| format!("<div>{}</div>", escaped(&line)));
        let _ = write!(page, "<td>{}", escaped(&host.certificate));
    }
    page.push_str("</tbody></table>\n");
}

fn forms(page: &mut String, view: &View) {
    let hosts = &view.hosts;
    page.push_str(
        "<section aria-labelledby=\"h-add\">\n<h2 id=\"h-add\">Add a host</h2>\n<form data-form=\"add\" novalidate>\n",
    );
    field(page, "add", "host", "Host", "such as game.example.org");
    field(page, "add", "app", "App", "a port of this machine, such as 3005, or ADDRESS:PORT");
    field(page, "add", "path", "Only this path (optional)", "such as /socket.io/");
    field(page, "add", "redirect", "Or redirect to (instead of an app)", "such as https://example.org");
    certificate(page, "add", view, "<option value=\"\">As the file already says for this name</option>");
    page.push_str(SUBMIT);
    let routes: Vec<(&str, &str)> = hosts
        .iter()
        .flat_map(|host| host.routes.iter().map(|(path, _)| (host.host.as_str(), path.as_str())))
        .collect();
    if !routes.is_empty() {
        page.push_str("<section aria-labelledby=\"h-upstream\">\n<h2 id=\"h-upstream\">Change the app of a host</h2>\n<form data-form=\"upstream\" novalidate>\n<p><label for=\"upstream-route\">Host and path</label><select id=\"upstream-route\" name=\"route\" aria-describedby=\"upstream-host-said\">");
        for (host, path) in routes {
            let _ = write!(
                page,
                "<option data-host=\"{0}\" data-path=\"{1}\">{0}{1}</option>",
                escaped(host),
                escaped(path)
            );
        }
        page.push_str("</select><span id=\"upstream-host-said\" class=\"said\"></span></p>\n");
        field(page, "upstream", "app", "App", "a port of this machine, or ADDRESS:PORT");
        page.push_str(SUBMIT);
    }
    if !hosts.is_empty() {
        page.push_str("<section aria-labelledby=\"h-certificate\">\n<h2 id=\"h-certificate\">Choose the certificate of a host</h2>\n<form data-form=\"certificate\" novalidate>\n<p><label for=\"certificate-host\">Host</label><select id=\"certificate-host\" name=\"host\" aria-describedby=\"certificate-host-said\">");
        options(page, hosts);
        page.push_str("</select><span id=\"certificate-host-said\" class=\"said\"></span></p>\n");
        certificate(page, "certificate", view, "");
        page.push_str(SUBMIT);
    }
    if !hosts.is_empty() {
        page.push_str("<section aria-labelledby=\"h-remove\">\n<h2 id=\"h-remove\">Remove a host</h2>\n<form data-form=\"remove\" novalidate>\n<p><label for=\"remove-host\">Host</label><select id=\"remove-host\" name=\"host\" aria-describedby=\"remove-host-said\">");
        options(page, hosts);
        page.push_str("</select><span id=\"remove-host-said\" class=\"said\"></span></p>\n");
        page.push_str(SUBMIT);
    }
}

/// The choice of a certificate; the first option is the form's own.
fn certificate(page: &mut String, form: &str, view: &View, first: &str) {
    let _ = write!(
        page,
        "<p><label for=\"{form}-certificate\">Certificate</label><select id=\"{form}-certificate\" name=\"certificate\" \
         aria-describedby=\"{form}-certificate-said\">{first}<option value=\"acme\">From a CA, obtained and renewed by sanedge</option>"
    );
    each(page, &view.certificates, |files| {
        format!(
            "<option value=\"{}\">{} ({})</option>",
            files.place,
            escaped(&files.names),
            escaped(&files.file)
        )
    });
    let _ = writeln!(
        page,
        "</select><span id=\"{form}-certificate-said\" class=\"said\" role=\"status\"></span></p>"
    );
    let hidden = if view.has_acme { " hidden" } else { "" };
    let _ = writeln!(
        page,
        "<label{hidden}><input type=\"checkbox\" id=\"{form}-agreed\" name=\"agreed\"> For a certificate from a CA: I agree to the terms of service of \
         Let\u{2019}s Encrypt</label>"
    );
}

fn options(page: &mut String, hosts: &[HostView]) {
    each(page, hosts, |host| format!("<option>{}</option>", escaped(&host.host)));
}

/// The doctor, which changes nothing.
fn doctor(page: &mut String, hosts: &[HostView]) {
    if hosts.is_empty() {
        return;
    }
    page.push_str(
        "<section aria-labelledby=\"h-doctor\">\n<h2 id=\"h-doctor\">Check the connection of a client</h2>\n<form id=\"doctor\">\n\
         <p><label for=\"doctor-host\">Host</label><select id=\"doctor-host\" name=\"host\">",
    );
    options(page, hosts);
    page.push_str(
        "</select></p>\n<label><input type=\"checkbox\" id=\"doctor-here\" name=\"here\"> Connect directly to the edge on this board, without DNS</label>\n\
         <button>Run the doctor</button>\n</form>\n<ol id=\"doctor-steps\" class=\"steps\" role=\"log\" aria-live=\"polite\" aria-label=\"Stages\"></ol>\n\
         <p id=\"doctor-outcome\" role=\"status\"></p>\n</section>\n",
    );
}

/// The end of a form and its section. Findings that belong to no field stand above the button.
const SUBMIT: &str = "<div class=\"said form-said\" role=\"status\"></div>\n<button>Check and show the change</button>\n</form>\n</section>\n";

fn field(page: &mut String, form: &str, name: &str, label: &str, hint: &str) {
    let _ = writeln!(
        page,
        "<p><label for=\"{form}-{name}\">{label}</label><input id=\"{form}-{name}\" name=\"{name}\" autocomplete=\"off\" autocapitalize=\"none\" \
         spellcheck=\"false\" maxlength=\"{}\" aria-describedby=\"{form}-{name}-hint {form}-{name}-said\"><small id=\"{form}-{name}-hint\">{hint}</small>\
         <span id=\"{form}-{name}-said\" class=\"said\" role=\"status\"></span></p>",
        super::link::TEXT_BYTES_MAX
    );
}

fn each<T>(page: &mut String, all: impl IntoIterator<Item = T>, one: impl Fn(T) -> String) {
    all.into_iter().for_each(|item| page.push_str(&one(item)));
}

/// For an element or an attribute in double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::link::Files;

    fn hello(is_whole: bool) -> Hello {
        Hello { sandbox: "no <capabilities>".to_owned(), is_whole }
    }

    #[test]
    fn nothing_that_is_shown_becomes_markup() {
        let evil = "\"'><script>alert(1)</script>&";
        let view = View {
            digest: evil.to_owned(),
            lines: vec![evil.to_owned()],
            edge: evil.to_owned(),
            problems: vec![Problem {
                field: String::new(),
                severity: evil.to_owned(),
                message: evil.to_owned(),
                remedy: evil.to_owned(),
            }],
            hosts: vec![HostView {
                host: evil.to_owned(),
                routes: vec![(evil.to_owned(), evil.to_owned())],
                redirect: Some(evil.to_owned()),
                certificate: evil.to_owned(),
            }],
            certificates: vec![Files { place: 0, file: evil.to_owned(), names: evil.to_owned() }],
            has_acme: false,
            unapplied: vec![evil.to_owned()],
            restart: vec![evil.to_owned()],
            websockets: 3,
            is_cut: true,
        };
        let page = console(evil, evil, &hello(false), &view);
        assert!(!page.contains("<script>") && !page.contains("alert(1)</script>"), "{page}");
        assert!(page.matches("&quot;&#39;&gt;&lt;script&gt;").count() > 20, "{page}");
        assert!(page.contains("not in a complete sandbox: no &lt;capabilities&gt;"));
        assert!(!console("a", "b", &hello(true), &View::default()).contains("sandbox"));
    }

    #[test]
    fn scripts_and_style_stay_apart_and_nothing_comes_from_outside() {
        let page = console("a", "b", &hello(false), &View::default()) + &door();
        for text in [page.as_str(), DOOR_SCRIPT, SCRIPT, STYLE] {
            for forbidden in [
                "http://",
                "https://",
                "//cdn",
                "@import",
                "url(",
                " style=",
                " onclick=",
                "innerHTML",
                "eval(",
            ] {
                let found = text.matches(forbidden).count();
                // The hint of the redirect's field.
                let allowed = usize::from(forbidden == "https://" && text.len() == page.len());
                assert!(found <= allowed, "{forbidden}: {found}");
            }
        }
        assert!(
            !page.contains("<style")
                && page.matches("<script src=").count() == page.matches("<script").count()
        );
        let bytes = DOOR_SCRIPT.len() + SCRIPT.len() + STYLE.len();
        assert!(bytes < 16 * 1024, "{bytes} bytes are in every binary");
    }

    #[test]
    fn each_response_forbids_what_the_page_does_not_need() {
        for response in [
            html("a"),
            script("a"),
            style(),
            json(&1),
            stream(),
            entered("/a/", "b=c"),
            problem(403, "Forbidden", "<no>"),
        ] {
            let text = String::from_utf8(response).unwrap();
            for field in [
                "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';",
                "frame-ancestors 'none'",
                "X-Content-Type-Options: nosniff\r\n",
                "Referrer-Policy: no-referrer\r\n",
                "Cache-Control: no-store\r\n",
                "Connection: close\r\n",
            ] {
                assert!(text.contains(field), "{field}: {text}");
            }
        }
    }
}
