// Runs before the page is drawn, so that a chosen colour scheme does not flash. Not a module: those wait.
try {
  const theme = localStorage.getItem('ringmain-theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch {
  // Storage is forbidden here: the system's scheme it is.
}
