import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { chaos } from './chaos.ts'

serve(chaos)
