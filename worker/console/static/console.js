// The console works without this: it adds local times, live pieces of pages, and a count of what is selected.
"use strict";

function localTimes(root) {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = format.format(new Date(time.dateTime));
  }
}

function live(region) {
  const events = new EventSource(region.dataset.live);
  events.onmessage = (event) => {
    if (region.contains(document.activeElement)) return; // nobody's focus is taken away
    region.innerHTML = event.data; // rendered and escaped by the server, as the page itself
    localTimes(region);
  };
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
  };
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; count(); });
  form.addEventListener("change", count);
  count();
}

localTimes(document);
for (const region of document.querySelectorAll("[data-live]")) live(region);
for (const form of document.querySelectorAll("form")) selection(form);
for (const form of document.querySelectorAll("form[role=search]")) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
}
