import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { bridge } from './bridge.ts'

serve(bridge)
