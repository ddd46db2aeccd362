// The console works without this: it adds local times, live pieces of pages, and a count of what is selected.
"use strict";

function localTimes(root) {
  const day = new Intl.DateTimeFormat(undefined, { day: "2-digit", month: "short" });
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
    if (!time.title.includes("\n")) time.title += `\n${zoned.format(at)}`;
  }
}

// What a region holds is replaced part by part, and only where it differs: a screen reader says an alarm once.
function refresh(region, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html; // rendered and escaped by the server, as the page itself
  const parts = [...fresh.content.children];
  const told = parts.map((part) => part.outerHTML);
  const same = region.told && region.told.length === told.length;
  const focus = focused(region);
  const scrolls = [...region.querySelectorAll(".wide")].map((wide) => wide.scrollLeft);
  for (const part of parts) localTimes(part);
  if (same) parts.forEach((part, place) => { if (told[place] !== region.told[place]) replace(region.children[place], part); });
  else region.replaceChildren(...parts);
  region.told = told;
  region.querySelectorAll(".wide").forEach((wide, place) => { wide.scrollLeft = scrolls[place] || 0; });
  if (focus && document.activeElement === document.body) find(region, focus)?.focus({ preventScroll: true });
}

function replace(old, part) {
  if (old.matches("[role=alert]")) old.replaceChildren(...part.childNodes); // it must stay to be listened to
  else old.replaceWith(part);
}

const name = (element) => element.getAttribute("href") || element.getAttribute("aria-label");

function focused(region) {
  return region.contains(document.activeElement) ? name(document.activeElement) : null;
}

function find(region, wanted) {
  return [...region.querySelectorAll("a, [tabindex]")].find((element) => name(element) === wanted);
}

function live(region) {
  const events = new EventSource(region.dataset.live);
  const note = document.createElement("p");
  note.className = "banner calm";
  note.setAttribute("role", "status");
  const say = (text) => { note.textContent = text; note.hidden = !text; };
  say("");
  region.before(note);
  events.onopen = () => say("");
  events.onmessage = (event) => refresh(region, event.data);
  events.onerror = () => say(events.readyState === EventSource.CLOSED
    ? "This page is no longer live: load it again."
    : "The receiver cannot be reached. What you see may be old; trying again…");
  events.addEventListener("end", () => { events.close(); location.reload(); });
}

function selection(form) {
  const boxes = [...form.querySelectorAll("input[name=ids]")];
  const all = form.querySelector("[data-all=ids]");
  const told = form.querySelector("[data-count=ids]");
  if (!boxes.length || !all || !told) return;
  const buttons = told.parentElement.querySelectorAll("button");
  const count = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    told.textContent = `${chosen} selected`;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
    for (const button of buttons) button.disabled = chosen === 0;
    told.parentElement.classList.toggle("sticky", chosen > 0);
  };
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; count(); });
  form.addEventListener("change", count);
  count();
}

function dropEmpty(form) {
  const fields = [...form.elements].filter((field) => field.name && !field.value && !field.hasAttribute("data-keep"));
  for (const field of fields) field.disabled = true;
  setTimeout(() => { for (const field of fields) field.disabled = false; });
}

localTimes(document);
for (const region of document.querySelectorAll("[data-live]")) live(region);
for (const form of document.querySelectorAll("form")) selection(form);
for (const form of document.querySelectorAll("form[role=search]")) form.addEventListener("submit", () => dropEmpty(form));
