import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { tuning } from './tuning.ts'

serve(tuning)
