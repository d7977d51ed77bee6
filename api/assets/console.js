// Everything here makes pages quicker that work without it too. Each module looks for its own marks in the page.
import './copy.js'
import './dialog.js'
import './live.js'
import './popover.js'
import './selection.js'
import './shortcuts.js'
import './toast.js'
import './token.js'
