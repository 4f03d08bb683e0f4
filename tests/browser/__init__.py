"""Tests that drive the app in a browser; what their demo page and their checks both know."""

N = 64
NASTY = "<script>document.title='broken in'</script>"
