import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { portmap } from './portmap.ts'

serve(portmap)
