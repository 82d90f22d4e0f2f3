import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { loopback } from './loopback.ts'

serve(loopback)
