"""The operator's page in a real browser: page.py CHROMIUM URL TOKEN FOLDER-OF-PICTURES."""

import sys
from pathlib import Path

from playwright.sync_api import Page, Route, sync_playwright

chromium, url, token, pictures = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])

# figures of a gateway in use, beside what the relay itself says
FIGURES = """
kvcap_recovery_seconds_bucket{rung="exact",le="0.1"} 10
kvcap_recovery_seconds_bucket{rung="exact",le="0.3"} 180
kvcap_recovery_seconds_bucket{rung="exact",le="+Inf"} 190
kvcap_recovery_seconds_count{rung="exact"} 190
kvcap_recovery_seconds_bucket{rung="shorter",le="0.3"} 30
kvcap_recovery_seconds_bucket{rung="shorter",le="1"} 41
kvcap_recovery_seconds_bucket{rung="shorter",le="+Inf"} 41
kvcap_recovery_seconds_count{rung="shorter"} 41
kvcap_recovery_seconds_bucket{rung="history-only",le="10"} 0
kvcap_recovery_seconds_bucket{rung="history-only",le="+Inf"} 7
kvcap_recovery_seconds_count{rung="history-only"} 7
kvcap_open_outcome_total{rung="exact",code="0"} 190
kvcap_open_outcome_total{rung="shorter",code="0"} 41
kvcap_open_outcome_total{rung="history-only",code="402"} 5
kvcap_open_outcome_total{rung="history-only",code="926"} 2
kvcap_replay_overhead_ratio 1.07
kvcap_checkpoint_coverage_ratio 0.94
kvcap_checkpoint_age_seconds 5400
kvcap_tokens_restored_total 481200
kvcap_tokens_evaluated_total 21040
kvcap_sessions 1204
kvcap_session_bytes 12300000000
kvcap_probes_total{outcome="same"} 3
kvcap_capsules 214
kvcap_capsule_bytes 9876543210
kvcap_uploads 3
kvcap_bytes_total{direction="in"} 12345678901
kvcap_bytes_total{direction="out"} 7345678901
kvcap_revocation_age_seconds 240
kvcap_verify_seconds_bucket{outcome="accepted",code="0",le="0.0005"} 900
kvcap_verify_seconds_bucket{outcome="accepted",code="0",le="0.001"} 1010
kvcap_verify_seconds_bucket{outcome="accepted",code="0",le="+Inf"} 1011
kvcap_verify_seconds_count{outcome="accepted",code="0"} 1011
kvcap_verify_seconds_bucket{outcome="refused",code="402",le="0.0005"} 12
kvcap_verify_seconds_bucket{outcome="refused",code="402",le="+Inf"} 12
kvcap_verify_seconds_count{outcome="refused",code="402"} 12
kvcap_answers_total{status="200"} 31004
kvcap_answers_total{status="201"} 214
kvcap_answers_total{status="403"} 12
"""


def show(page: Page, secret: str) -> None:
    page.get_by_label("Token of an operator").fill(secret)
    page.get_by_role("button", name="Show").click()


def check(done: bool, what: str) -> None:
    if not done:
        raise SystemExit(f"the operator's page: {what}")


def text(page: Page, title: str) -> str:
    return page.locator("section", has=page.get_by_role("heading", name=title)).inner_text()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
    for width, scheme in [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")]:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        asked, told = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.goto(url)
        page.get_by_text("· ready").wait_for()

        # a token that is not known, and one that is: figures of this very relay
        show(page, "kvcap-token-1" + "0" * 64)
        page.get_by_text("This token is not known here.").wait_for()
        check(page.locator("#figures").is_hidden(), "figures without a token")
        show(page, token)
        page.get_by_text("As of").wait_for()
        check("401" in text(page, "Answers"), "no answers of this relay")
        check("Nothing was resumed yet." in text(page, "Recovery"), "a relay resumes nothing")
        check(page.get_by_label("Token of an operator").input_value() == "", "the token stays in its field")
        kept = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie.length]")
        check(kept == [0, 0, 0], f"something is stored: {kept}")
        check(page.content().find(token) < 0, "the token is in the page")
        # what was typed is refused by its status alone
        wrong = [line for line in told if "401" not in line]
        check(not wrong, f"the browser complains: {wrong}")

        # figures of a gateway
        def gateway(route: Route) -> None:
            route.fulfill(body=FIGURES, content_type="text/plain")

        page.route("**/metrics", gateway)
        show(page, token)
        page.get_by_text("history-only, KVC-402").wait_for()
        check("≤ 300 ms" in text(page, "Recovery"), "the median of recovery")
        check("> 10 s" in text(page, "Recovery"), "a quantile beyond the last bound")
        check("94 %" in text(page, "Replay and coverage"), "coverage")
        check("9.88 GB" in text(page, "Resumes and storage"), "storage")
        check("1,204" in text(page, "Resumes and storage"), "sessions")
        check("same" in text(page, "Degradation"), "restores that were tried")
        check("KVC-402" in text(page, "Verdicts"), "verdicts")
        wide = page.evaluate("document.documentElement.scrollWidth")
        check(wide <= width, f"{wide} pixels wide in a window of {width}")
        # by keyboard alone
        page.keyboard.press("Control+Home")
        page.locator("#token").focus()
        page.keyboard.press("Tab")
        check(page.evaluate("document.activeElement.tagName") == "BUTTON", "the keyboard")
        name = "narrow" if width == 360 else "wide"
        page.screenshot(path=pictures / f"{name}-{scheme}.png", full_page=True)

        # a script that is not the page's is not run, and nothing is sent elsewhere
        blocked = page.evaluate("""() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            setTimeout(() => done("ran"), 2000);
        })""")
        check(blocked.startswith("script-src") and page.evaluate("window.ran") is None, f"a foreign script: {blocked}")
        outside = page.evaluate("fetch('https://example.com/').then(() => 'sent', () => 'blocked')")
        check(outside == "blocked", "a request elsewhere")
        elsewhere = [to for to in asked if not to.startswith(url) and "example.com" not in to]
        check(not elsewhere, f"requests elsewhere: {elsewhere}")
        context.close()
    browser.close()
print(f"the operator's page: shown 4 times, pictures in {pictures}")
