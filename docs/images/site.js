// names for the keyboard and screen readers: code that scrolls can be reached, and no two regions have the same name
document$.subscribe(() => setTimeout(() => {
  document.querySelectorAll("pre > code").forEach((code) => { code.tabIndex = 0; });
  document.querySelectorAll(".md-code__nav").forEach((nav, number) => nav.setAttribute("aria-label", `Code ${number + 1}`));
  document.querySelectorAll(".md-nav .md-nav[aria-labelledby]").forEach((nav, number) => {
    const title = document.getElementById(nav.getAttribute("aria-labelledby"));
    nav.removeAttribute("aria-labelledby");
    nav.setAttribute("aria-label", `${title ? title.textContent.trim() : "Pages"} (${number + 1})`);
  });
}));
