import '../../engine/globals.ts'
import { serve } from '../contract/serve.ts'
import { nat } from './nat.ts'

serve(nat)
