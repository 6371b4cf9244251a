"use strict";
(() => {
  const copied = (button, done) => {
    button.textContent = done ? "Copied" : "Select and copy";
    setTimeout(() => (button.textContent = "Copy"), 1600);
  };
  const select = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest && event.target.closest("[data-copies]");
    const source = button && document.getElementById(button.dataset.copies);
    if (!source) return;
    try {
      await navigator.clipboard.writeText(source.textContent);
      copied(button, true);
    } catch {
      select(source);
      copied(button, document.execCommand("copy"));
    }
  });
  const press = (id) => {
    const button = document.getElementById(id);
    if (button && !button.disabled && button.offsetParent) button.click();
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ["q-go", "q-score", "q-classify"].forEach(press);
    }
    if (event.key === "Escape") press("q-stop");
  });
})();
